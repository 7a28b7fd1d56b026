"""Graphs of tasks on the chunks of collections."""

from collections import Counter
from uuid import uuid4

import dask
import dask.array as da
from dask._task_spec import Alias, Task, TaskRef, convert_legacy_graph
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from .._arrays.threads import cached_property


def optimized(collections):
    """Let dask optimise collections, but not common tasks, or annotated ones.

    It would optimise collections one by one, and compute common tasks for each; and
    forget annotations, such as which workers may compute a task.
    """
    if any(map(_annotated, collections)):
        return collections
    if len(collections) > 1:  # to look at all keys takes time
        keys = [set(each.__dask_graph__()) for each in collections]
        if len(set().union(*keys)) < sum(map(len, keys)):
            return collections
    return [
        each.optimize() if hasattr(each, "optimize") else dask.optimize(each)[0]
        for each in collections
    ]


def _annotated(collection):
    """Find the keys of tasks of which a user has said more, such as where they run."""
    layers = getattr(collection.__dask_graph__(), "layers", {}).values()
    return set().union(*(layer for layer in layers if layer.annotations))


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
        self.shared = []
        self.tasks = {}
        self.token = uuid4().hex

    def add(self, function, *args):
        """Add the call of a function; return what stands for its result."""
        key = f"{function.__name__.strip('_')}-{self.token}", len(self.tasks)
        self.tasks[key] = Task(key, function, *args)
        return TaskRef(key)

    def add_with_parts(self, function, *args):
        """Add a call that computes itself what nothing else needs of the collections.

        Between two tasks a worker waits for the scheduler, longer than it takes to read
        most chunks.
        """
        key = self.add(function, *args).key
        chain = [self.tasks[key]]
        keys = [arg.key for arg in args if isinstance(arg, TaskRef)]
        while keys:
            task = self._needed_once.get(keys.pop())
            if task is not None:
                chain.append(task)
                keys += task.dependencies if len(task.dependencies) == 1 else ()
        self.tasks[key] = Task.fuse(*chain)
        return TaskRef(key)

    @cached_property
    def _needed_once(self):
        """Tasks of the collections that one task needs, and that may run with it."""
        graph, needed, annotated = {}, Counter(), set()
        for each in self.collections:
            graph |= each.__dask_graph__()
            needed.update(flatten(each.__dask_keys__()))
            annotated |= _annotated(each)
        graph = convert_legacy_graph(graph)
        for task in graph.values():
            needed.update(task.dependencies)
        return {
            key: task
            for key, task in graph.items()
            if needed[key] == 1 and key not in annotated and type(task) in (Alias, Task)
        }

    def share(self, value):
        """Send a value once to each worker that needs it; return what stands for it."""
        value = dask.delayed(value, traverse=False)
        self.shared.append(value)
        return TaskRef(value.key)

    def delayed(self, results):
        """Make delayed objects of results of tasks."""
        keys = [result.key for result in results]
        graph = HighLevelGraph.from_collections(
            self.token, self.tasks, dependencies=[*self.collections, *self.shared]
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
        graph = HighLevelGraph.from_collections(
            name, layer, [*self.collections, *self.shared]
        )
        chunks = tuple(sizes), *((n,) for n in like.shape[1:])
        return da.Array(graph, name, chunks, dtype=like.dtype)
