"""Graphs of tasks on the chunks of collections."""

from uuid import uuid4

import dask
import dask.array as da
from dask._task_spec import Task, TaskRef
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph


def optimized(collections):
    """Let dask optimise collections, unless they have tasks in common.

    It would optimise them one by one, and compute these tasks for each.
    """
    if len(collections) > 1:  # to look at all keys takes time
        keys = [set(each.__dask_graph__()) for each in collections]
        if len(set().union(*keys)) < sum(map(len, keys)):
            return collections
    return [
        each.optimize() if hasattr(each, "optimize") else dask.optimize(each)[0]
        for each in collections
    ]


def parts_of(collection):
    """List the parts of a collection along its rows, as arguments of tasks.

    A bare key would be taken for one only while the graph has it, which it no longer
    does when the part has been persisted.
    """
    return [TaskRef(key) for key in flatten(collection.__dask_keys__())]


class Tasks:
    """Tasks of one computation.

    They are one layer of a graph: with one for each, as `dask.delayed` has them, the
    time of dask grows with the square of their number.

    Parameters
    ----------
    collections : list of dask collections
        Whose parts tasks may have as arguments.
    """

    def __init__(self, collections):
        self.collections = list(collections)
        self.tasks = {}
        self.token = uuid4().hex

    def add(self, function, *args):
        """Add the call of a function; return what stands for its result."""
        key = f"{function.__name__.strip('_')}-{self.token}", len(self.tasks)
        self.tasks[key] = Task(key, function, *args)
        return TaskRef(key)

    def share(self, value):
        """Send a value once to each worker that needs it; return what stands for it."""
        value = dask.delayed(value, traverse=False)
        self.collections.append(value)
        return TaskRef(value.key)

    def delayed(self, results):
        """Make delayed objects of results of tasks."""
        keys = [result.key for result in results]
        graph = HighLevelGraph.from_collections(
            self.token, self.tasks, dependencies=self.collections
        )
        return [Delayed(key, graph, layer=self.token) for key in keys]

    def array(self, calls, sizes, like):
        """Make a dask array of calls, like another array but for its rows.

        Parameters
        ----------
        calls : list of tuple
            A function and its arguments, for each chunk.
        sizes : list of int
            Rows of each chunk, or NaN.
        like : ndarray
            Of the type, and of the shape but for the rows.

        Returns
        -------
        array : dask array of shape (n, *like.shape[1:])
        """
        name = f"{calls[0][0].__name__.strip('_')}-{uuid4().hex}"
        ends = (0,) * (like.ndim - 1)
        keys = [(name, i, *ends) for i in range(len(calls))]
        layer = {key: Task(key, *call) for key, call in zip(keys, calls, strict=True)}
        graph = HighLevelGraph.from_collections(name, layer, self.collections)
        chunks = tuple(sizes), *((n,) for n in like.shape[1:])
        return da.Array(graph, name, chunks, dtype=like.dtype)
