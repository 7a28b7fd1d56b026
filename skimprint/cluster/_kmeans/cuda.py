"""Cluster every class on a CUDA GPU: launch the kernels of `kernels.cu`.

All groups of a bucket go through the same launches, of whatever sizes they are. The
host looks at them once in a few iterations. Nothing is summed in an order that may
change, so equal calls give equal bits.
"""

import math
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from ..._arrays.device import DeviceArray, to_host
from ..._arrays.groups import group_by_equal, offsets_of
from ...normalization import EPS
from .routes import fits_gram_space
from .seeding import MORE, TWICE, n_trials, sample_size

# Bytes of rows and distances that go through the device together, unless a single
# group has more: enough to fill it, and a fraction of what it has.
_BUCKET_BYTES = 2**31

# Features come in multiples of this.
_WIDTH = 32

# Rows of a tile in products, and what each takes of shared memory: stages, features.
_TILE_ROWS = 128
_ROW_BYTES = 4 * (16 + 4) * 4

# Iterations between two looks of the host.
_LOOK = 4

# The oldest GPUs, of 2020, that copy to shared memory while they compute.
_OLDEST = 80

# Shared memory that a block may have on every such GPU, and what it has unasked, beside
# some that the kernels always take.
_MAX_SHARED = 88 * 1024
_SHARED = 38 * 1024

# For the kernels, a null pointer.
_NOTHING = np.uint64(0)


class Clusters(NamedTuple):
    """Hold the clusters of some groups, in arrays of the device."""

    centers: object  # (k_total, d): group by group
    indices: object  # (k_total,): row of the group that is nearest to a centre
    counts: object  # (k_total,): weight of the rows that it is nearest to
    spreads: object  # (k_total,): its squared distance from the nearest row
    inertia: object  # (k_total,): of the rows that it is nearest to


class Cupy:
    """Launch kernels through CuPy."""

    def __init__(self):
        import cupy

        self.xp = cupy

    def __call__(self, name, grid, threads, *args, shared=0, shape=(1, 1)):
        """Run a kernel.

        Parameters
        ----------
        name : str
            Its name in the source.
        grid : tuple of int
            Blocks along x and y.
        threads : int
            Threads of a block.
        *args : array, number or None
            Arrays of the device, NumPy's floats, and what becomes a 32-bit int.
        shared : int, default=0
            Bytes of shared memory.
        shape : tuple of int, default=(1, 1)
            Columns per thread and warps of a product.
        """
        kernel = _compiled(self.xp.cuda.Device().id, name, shape, shared > _SHARED)
        args = tuple(map(_as_argument, args))
        kernel(grid, (threads,), args, shared_mem=shared)


def _as_argument(arg):
    if arg is None:
        return _NOTHING
    return np.int32(arg) if isinstance(arg, int | np.integer | np.bool_) else arg


def source():
    """Read the source of all kernels."""
    return files(__package__).joinpath("kernels.cu").read_text("utf-8")


@lru_cache
def _compiled(device, name, shape, is_large):
    """Compile a kernel for a shape of products; CuPy keeps what it compiles on disk."""
    kernel = _module(device, shape).get_function(name)
    if is_large:
        kernel.max_dynamic_shared_size_bytes = _MAX_SHARED
    return kernel


@lru_cache
def _module(device, shape):
    import cupy

    return cupy.RawModule(code=source(), options=_options(shape), backend="nvrtc")


def _options(shape):
    return ("--std=c++17", f"-DTILE_COLUMNS={shape[0]}", f"-DWARPS={shape[1]}")


def is_possible(groups, n_clusters):
    """Tell whether rows are on CUDA, in float32, with clusters that fit a block."""
    room = np.max(n_clusters, initial=0) * (_WIDTH + 1) * 8 <= _MAX_SHARED
    if not room or groups.dtype != np.float32:
        return False
    X = groups.X.on_cuda()
    return X is not None and int(X.device.compute_capability) >= _OLDEST


def buckets(groups, n_centers, some, n_init):
    """List groups together that are seeded in one way, with as many centres."""
    n, k = groups.sizes[some], n_centers[some]
    exact = fits_gram_space(n, k, n_init)
    sampled = np.where(exact, n, np.minimum(n, sample_size(k)))
    padded = -(-groups.n_features // _WIDTH) * _WIDTH
    need = 4 * (n * (padded + k) + sampled**2)
    for same in group_by_equal(k, exact):
        begin, ends = 0, np.cumsum(need[same])
        while begin < len(same):
            room = _BUCKET_BYTES + (ends[begin - 1] if begin else 0)
            end = max(begin + 1, int(np.searchsorted(ends, room, side="right")))
            yield some[same[begin:end]]
            begin = end


def cluster_rows(groups, k, **options):
    """Cluster groups of rows that are on CUDA.

    Parameters
    ----------
    groups : GroupedRows
        Rows for which `is_possible` holds, more than ``k`` of each group.
    k : int
        Number of centres of each group.
    **options
        As for `kmeans_on_device`.

    Returns
    -------
    clusters : Clusters
        On the device, with row numbers of ``groups.X`` and the inertia of each group.
    """
    there, order = groups.X, groups.order
    with there.on_cuda().device:
        X, index = there.on_cuda(), order
        if X.dtype != np.float32 or not X.flags.c_contiguous:
            X, index = DeviceArray(there.rows(order, np.float32)).on_cuda(), None
        weights = groups.sample_weight
        options["tol"] /= groups.n_features
        found = cluster(
            Cupy(),
            X,
            index,
            groups.sizes,
            k,
            weights=None if weights is None else weights[order],
            norm=groups.transform,
            **options,
        )
        inertia = to_host(found.inertia).reshape(-1, k).sum(axis=1)
        indices = order[to_host(found.indices)]
        return found._replace(indices=indices, inertia=inertia)


def cluster(
    launch, X, order, sizes, k, *, weights, norm, spherical, seed, n_init, max_iter, tol
):
    """Cluster groups of rows that have the same number of centres.

    Parameters
    ----------
    launch : Cupy
        What runs a kernel.
    X : array of shape (n, d)
        C-contiguous float32 rows on the device.
    order : ndarray of shape (m,)
        Rows of the groups, one after the other; `None` for all of ``X``.
    sizes : ndarray of shape (n_groups,)
        Number of rows of each, more than ``k``. All are seeded as the first.
    k : int
        Number of centres of each group.
    weights : ndarray of shape (m,) or None
        Positive weights of these rows.
    norm : Norm
        Normalisation of the rows, with a form on devices.
    spherical, seed, n_init, max_iter, tol
        As in `kmeans_on_device`; ``tol`` relative to all features together.

    Returns
    -------
    clusters : Clusters
        On the device, with row numbers of ``order``.
    """
    work = _Work(launch, X, order, sizes, k, weights, norm, spherical, tol)
    rng = np.random.default_rng(seed)
    best = None
    for _ in range(n_init):
        work.seed(rng, n_init)
        work.iterate(max_iter)
        found = work.summarize()
        if best is None:
            best = found
            continue
        xp, by_group = launch.xp, (len(sizes), k)
        inertias = (xp.sum(run.inertia.reshape(by_group), 1) for run in (found, best))
        better = xp.repeat(xp.less(*inertias), k)
        best = Clusters(
            *(
                xp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, kept)
                for new, kept in zip(found, best, strict=True)
            )
        )
    return best


class _Work:
    """Hold rows of some groups on the device, and their clusters as they come about."""

    def __init__(self, launch, X, order, sizes, k, weights, norm, spherical, tol):
        xp = self.xp = launch.xp
        self.launch, self.k, self.spherical, self.tol = launch, k, spherical, tol
        self.sizes, (_, self.d) = sizes, X.shape
        self.padded = -(-self.d // _WIDTH) * _WIDTH
        self.n_groups, self.n = len(sizes), int(sizes.sum())
        numbers = np.arange(self.n_groups)
        self.starts, self.ends, self.group, self.owner, self.tiles = self.bring_all(
            offsets_of(sizes),
            k * np.arange(self.n_groups + 1),
            np.repeat(numbers, sizes),
            np.repeat(numbers, k),
            _tiles(sizes),
        )
        self.weights = None if weights is None else self.bring(weights, np.float32)
        self.rows = xp.empty((self.n, self.padded), xp.float32)
        self.squares = xp.empty(self.n, xp.float32)
        if order is not None:
            order = self.bring(order, np.int64)
        if norm.before is not None:  # the kernel does no more than scale rows
            X, order = norm.before(xp, X if order is None else X[order]), None
        launch(
            "gather",
            (-(-self.n // 8), 1),
            256,
            X,
            order,
            self.rows,
            self.n,
            self.d,
            self.padded,
            spherical or norm.unit_length,
            np.float32(EPS),
        )
        self.means = None
        if not spherical:  # rounding hurts distances the least about the plain mean
            sums = xp.zeros((self.n_groups, self.padded), xp.float64)
            self.add_up(1, None, None, None, sums, None)
            self.means = (sums / self.bring(sizes)[:, None]).astype(xp.float32)
        launch(
            "centre",
            (-(-self.n // 8), 1),
            256,
            self.rows,
            self.group,
            self.means,
            self.squares,
            self.n,
            self.padded,
        )

    def bring(self, array, dtype=np.int32):
        return self.xp.asarray(np.ascontiguousarray(array, dtype))

    def bring_all(self, *arrays):
        """Bring numbers in one transfer: each costs as much as a kernel."""
        packed = self.bring(np.concatenate([array.ravel() for array in arrays]))
        offsets = offsets_of([array.size for array in arrays])
        return [
            packed[begin:end].reshape(array.shape)
            for array, begin, end in zip(arrays, offsets, offsets[1:], strict=False)
        ]

    def add_up(self, k, moves, n_moved, weights, sums, sizes):
        """Add rows to sums, all of them to that of their group, or those that move."""
        room = 8 * k * (_WIDTH + 1)
        warps = min(max(1, _SHARED // room), math.ceil(self.sizes.max() / 64), 8)
        self.launch(
            "add_up",
            (self.padded // _WIDTH * self.n_groups, 1),
            32 * warps,
            self.rows,
            self.starts,
            self.ends if moves else None,
            weights,
            *(moves or (None, None, None)),
            n_moved,
            sums,
            sizes,
            self.padded,
            shared=room * warps,
        )

    def distances(self, tiles, index, starts, points, squares, ends, corners, m, out):
        """Compute squared distances of rows to points, the same rows for `None`."""
        shape, columns, shared = _product(m)
        itself = points is None
        self.launch(
            "distances",
            (len(tiles), -(-m // columns)),
            32 * shape[1],
            tiles,
            self.rows,
            index,
            self.squares,
            starts,
            self.rows if itself else points,
            index if itself else None,
            self.squares if itself else squares,
            ends,
            corners,
            out,
            self.padded,
            shared=shared,
            shape=shape,
        )

    def seed(self, rng, n_init):
        """Choose seeds in a sample of each group; they are its first centres."""
        xp, k = self.xp, self.k
        first = int(self.sizes[0])
        exact = fits_gram_space(first, k, n_init)
        sampled = self.sizes if exact else np.minimum(self.sizes, sample_size(k))
        trials = (TWICE if exact else MORE) * n_trials(k)
        offset = 0.0 if exact else rng.random()
        uniforms = self.bring(rng.random(1 + (k - 1) * trials), np.float64)
        places, tiles = self.bring_all(offsets_of(sampled), _tiles(sampled))
        corners = self.bring(offsets_of(sampled.astype(np.int64) ** 2), np.int64)
        total, largest = int(sampled.sum()), int(sampled.max())
        chosen = xp.empty(total, xp.int32)
        importance = xp.empty(total, xp.float32)
        self.limits = xp.empty(self.n_groups, xp.float64)
        self.launch(
            "sample",
            (self.n_groups, 1),
            256,
            self.squares,
            self.weights,
            self.starts,
            places,
            np.float64(self.tol),
            np.float64(offset),
            xp.empty(self.n, xp.float64),
            self.limits,
            chosen,
            importance,
        )
        found = xp.empty(int((sampled.astype(np.int64) ** 2).sum()), xp.float32)
        self.distances(
            tiles, chosen, places, None, None, places, corners, largest, found
        )
        seeds = xp.empty(self.n_groups * k, xp.int32)
        self.launch(
            "seed",
            (self.n_groups, 1),
            256,
            found,
            corners,
            places,
            chosen,
            importance,
            self.ends,
            uniforms,
            trials,
            seeds,
            shared=12 * largest,
        )
        self.centers = xp.empty((self.n_groups * k, self.padded), xp.float32)
        self.center_squares = xp.empty(self.n_groups * k, xp.float32)
        self.launch(
            "start_from",
            (self.n_groups * k, 1),
            128,
            self.rows,
            self.squares,
            seeds,
            self.centers,
            self.center_squares,
            self.padded,
        )

    def iterate(self, max_iter):
        """Run Lloyd's algorithm from the centres, until every group has converged."""
        xp, total = self.xp, self.n_groups * self.k
        active = xp.ones(self.n_groups, xp.int32)
        n_active = xp.asarray(np.array([self.n_groups], np.int32))
        n_moved, tickets = (xp.zeros(self.n_groups, xp.int32) for _ in range(2))
        labels, found = xp.full(self.n, -1, xp.int32), xp.empty(self.n, xp.int32)
        closest = xp.empty(self.n, xp.float32)
        moves = [xp.empty(self.n, xp.int32) for _ in range(3)]
        sums = xp.zeros((total, self.padded), xp.float64)
        sizes, shifts = xp.zeros(total, xp.float64), xp.empty(total, xp.float64)
        members = xp.empty(total, xp.int32)
        shape, _, shared = _product(self.k)
        for iteration in range(1, max_iter + 1):
            self.launch(
                "nearest",
                (len(self.tiles), 1),
                32 * shape[1],
                self.tiles,
                active,
                self.rows,
                self.squares,
                self.centers,
                self.center_squares,
                self.ends,
                found,
                closest,
                self.padded,
                shared=shared,
                shape=shape,
            )
            self.launch(
                "change",
                (self.n_groups, 1),
                256,
                active,
                self.starts,
                self.ends,
                self.squares,
                found,
                closest,
                labels,
                *moves,
                n_moved,
                members,
                shared=4 * self.k,
            )
            self.add_up(self.k, moves, n_moved, self.weights, sums, sizes)
            self.launch(
                "settle",
                (total, 1),
                128,
                active,
                self.ends,
                self.owner,
                sums,
                sizes,
                members,
                self.limits,
                n_moved,
                self.centers,
                self.center_squares,
                shifts,
                tickets,
                n_active,
                self.padded,
                self.spherical,
                iteration == max_iter,
            )
            if iteration % _LOOK == 0 and not int(n_active[0]):
                break
        self.members = members

    def summarize(self):
        """Find what the centres stand for. An empty cluster repeats the largest one."""
        xp, k, total = self.xp, self.k, self.n_groups * self.k
        corners = self.bring(offsets_of(self.sizes.astype(np.int64) * k), np.int64)
        found = xp.empty(self.n * k, xp.float32)
        self.distances(
            self.tiles,
            None,
            self.starts,
            self.centers,
            self.center_squares,
            self.ends,
            corners,
            k,
            found,
        )
        labels, closest = xp.empty(self.n, xp.int32), xp.empty(self.n, xp.float32)
        self.launch(
            "choose",
            (-(-self.n // 256), 1),
            256,
            found,
            corners,
            self.group,
            self.starts,
            self.ends,
            labels,
            closest,
            self.n,
        )
        rows, spreads = xp.empty(total, xp.int32), xp.empty(total, xp.float32)
        counts, inertia = (xp.empty(total, xp.float64) for _ in range(2))
        self.launch(
            "summarize",
            (total, 1),
            128,
            found,
            corners,
            self.owner,
            self.starts,
            self.ends,
            labels,
            closest,
            self.weights,
            rows,
            spreads,
            counts,
            inertia,
        )
        members = self.members.reshape(self.n_groups, k)
        numbers = xp.arange(total).reshape(self.n_groups, k)
        largest = self.ends[:-1] + xp.argmax(members, axis=1)
        stand_in = xp.where(members > 0, numbers, largest[:, None]).ravel()
        centers = self.centers[:, : self.d]
        if self.means is not None:
            centers = centers + self.means[:, : self.d][self.owner]
        return Clusters(
            centers[stand_in], rows[stand_in], counts, spreads[stand_in], inertia
        )


def _tiles(sizes):
    """List the group, first row and number of rows of each tile: (n_tiles, 3)."""
    n_tiles = -(-sizes // _TILE_ROWS)
    group = np.repeat(np.arange(len(sizes)), n_tiles)
    within = np.arange(len(group)) - np.repeat(offsets_of(n_tiles)[:-1], n_tiles)
    begin = within * _TILE_ROWS
    count = np.minimum(sizes[group] - begin, _TILE_ROWS)
    return np.column_stack([group, offsets_of(sizes)[group] + begin, count])


def _product(m):
    """Choose the shape of a product with m points, columns of a block, shared bytes."""
    warps = 2 if m <= 32 else 4 if m <= 64 else 8
    parts = math.ceil(m / 128)  # 8 columns of each of 16 halves of warps
    shape = math.ceil(m / parts / (2 * warps)), warps
    columns = 2 * shape[0] * warps
    return shape, columns, (_TILE_ROWS + columns) * _ROW_BYTES
