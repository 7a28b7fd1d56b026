"""Where to compute: on the workers of a client, or in threads of this process."""

from concurrent.futures import CancelledError

import dask
import numpy as np
from joblib import cpu_count


def computed(tasks, client):
    """Compute tasks, on the client if there is one."""
    futures = []
    try:
        if client is None:
            return list(dask.compute(*tasks))
        _check_client(client)
        futures = client.compute(list(tasks))
        return client.gather(futures)
    except CancelledError as error:
        raise ConnectionError(
            "The scheduler has gone, or somebody cancelled what was being computed; no "
            "classifier has changed. Connect a client to a scheduler that runs, and "
            "call again."
        ) from error
    finally:
        if futures:  # where one has failed, the others are not needed
            client.cancel(futures)


def _check_client(client):
    """Refuse what is no client, and one that has gone."""
    if not hasattr(client, "gather"):
        raise TypeError(
            "client must be a distributed.Client, such as Client(cluster) or Client("
            f"address); got {type(client).__name__}."
        )
    if client.status != "running":
        raise ValueError(
            f"client must be connected to a scheduler; it is {client.status}. Start "
            "one, or leave client out to use the threads of this process."
        )
    if client.asynchronous:
        raise ValueError(
            "client must wait for results. Start one without asynchronous=True."
        )


def workers_of(client):
    """Count the threads that compute, and the bytes that there are for each."""
    if client is None:
        try:
            from distributed import get_client

            client = get_client()
        except (ImportError, ValueError):
            return cpu_count(), np.inf
    _check_client(client)
    workers = client.scheduler_info()["workers"].values()
    limits = [
        worker["memory_limit"] / worker["nthreads"]
        for worker in workers
        if worker["memory_limit"]
    ]
    n_threads = sum(worker["nthreads"] for worker in workers)
    return max(1, n_threads), min(limits, default=np.inf)
