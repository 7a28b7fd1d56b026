// k-means of many ragged groups at once: what runs on the device.
//
// Rows lie group by group, filled up with zeros to a multiple of 32 features; `starts`
// of n_groups + 1 numbers says where each group's rows begin, `ends` where its centres
// do. Nothing adds floating point numbers by atomics: equal calls give equal bits.
// Compiled with TILE_COLUMNS, the points per thread in a product, and WARPS, the warps
// that share its rows; see cuda.py, which also says what each launch needs.

#define DEPTH 16  // features per stage of a product
#define STAGES 4  // of a product at a time, all but one of them on their way
#define PITCH (DEPTH + 4)  // of a row in shared memory: 8 rows meet all banks
#define TILE_ROWS 128
#define ROW_LANES 16  // lanes of a warp along the rows: each has 8 of them
#define COLUMN_LANES (32 / ROW_LANES)
#define COLUMNS (WARPS * COLUMN_LANES * TILE_COLUMNS)  // of a block
#define BATCH 16  // rows that a thread of `add_up` has in flight
#define FULL 0xffffffffu
#define SLACK 1e-5  // of potentials that count as equal, as on the host

#ifdef __CUDACC__
#define DYNAMIC(type, name) extern __shared__ __align__(16) type name[]
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

__device__ inline void copy_16_bytes(void *to, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   (unsigned int)__cvta_generic_to_shared(to)),
               "l"(from));
}
__device__ inline void end_of_copies() { asm volatile("cp.async.commit_group;"); }
__device__ inline void wait_for_copies() {  // but those of the latest stages
  asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
}
#endif

__device__ inline float warp_sum(float x) {
  for (int lane = 16; lane; lane /= 2) x += __shfl_xor_sync(FULL, x, lane);
  return x;
}

__device__ inline double warp_sum(double x) {
  for (int lane = 16; lane; lane /= 2) x += __shfl_xor_sync(FULL, x, lane);
  return x;
}

// Sum over a block, for all its threads; in an order that never changes.
__device__ inline double block_sum(double x, double *scratch) {
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  double total = 0;
  for (int warp = 0; warp < (int)blockDim.x / 32; ++warp) total += scratch[warp];
  return total;
}

// Rows weigh the same where there are no weights.
__device__ inline float weight_of(const float *weights, int row) {
  return weights ? weights[row] : 1;
}

// Sums up to each thread of a block, its own value included.
__device__ inline double block_scan(double x, double *scratch) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int step = 1; step < 32; step *= 2) {
    double before = __shfl_up_sync(FULL, x, step);
    if (lane >= step) x += before;
  }
  __syncthreads();
  if (lane == 31) scratch[warp] = x;
  __syncthreads();
  for (int before = 0; before < warp; ++before) x += scratch[before];
  return x;
}

// Rows in the order of the groups, of unit length if scaled: a warp each.
extern "C" __global__ void gather(const float *X, const long long *order, float *rows,
                                  int n, int d, int padded, int scaled, float eps) {
  int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= n) return;
  const float *from = X + (order ? order[row] : row) * d;
  float *to = rows + (long long)row * padded;
  float square = 0, largest = 0;
#pragma unroll 8
  for (int j = lane; j < padded; j += 32) {
    float x = j < d ? from[j] : 0;
    square += x * x;
    largest = fmaxf(largest, fabsf(x));
    to[j] = x;
  }
  if (!scaled) return;
  square = warp_sum(square);
  if (square == INFINITY) {  // as on the host: scale before
    for (int step = 16; step; step /= 2)
      largest = fmaxf(largest, __shfl_xor_sync(FULL, largest, step));
    square = 0;
    for (int j = lane; j < padded; j += 32) {
      float x = to[j] /= largest;
      square += x * x;
    }
    square = warp_sum(square);
  }
  float length = fmaxf(sqrtf(square), eps);
  for (int j = lane; j < padded; j += 32) to[j] /= length;
}

// Rows less the mean of their group, if given, and their squared lengths.
extern "C" __global__ void centre(float *rows, const int *group,
                                  const float *means, float *squares, int n,
                                  int padded) {
  int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= n) return;
  float *x = rows + (long long)row * padded;
  const float *mean = means ? means + (long long)group[row] * padded : nullptr;
  float square = 0;
#pragma unroll 8
  for (int j = lane; j < padded; j += 32) {
    float value = x[j];
    if (mean) x[j] = value -= mean[j];
    square += value * value;
  }
  square = warp_sum(square);
  if (lane == 0) squares[row] = square;
}

// Add rows to the sums of clusters: a block has 32 columns of one group, the next block
// the next columns, and each of its warps a share of the rows. These come from a list
// of the group, or all do; they leave a cluster (`from`, -1 for none) and enter another.
// Without these, a group has one cluster. Lists begin where the rows of their group do.
extern "C" __global__ void add_up(const float *rows, const int *starts, const int *ends,
                                  const float *weights, const int *moved,
                                  const int *from, const int *to, const int *n_moved,
                                  double *sums, double *sizes, int padded) {
  DYNAMIC(double, totals);  // (warps, clusters, 32), then sizes: (warps, clusters)
  int parts = padded / 32, g = blockIdx.x / parts, start = starts[g];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
  int column = blockIdx.x % parts * 32 + lane;
  int first = ends ? ends[g] : g, k = ends ? ends[g + 1] - first : 1;
  int n = n_moved ? n_moved[g] : starts[g + 1] - start;
  if (!n) return;
  double *mine = totals + warp * k * 32 + lane;
  double *weighed = totals + n_warps * k * 32, *ours = weighed + warp * k;
  bool counts = sizes && column == 0;
  for (int c = 0; c < k; ++c) mine[c * 32] = 0;
  for (int c = lane; c < k; c += 32) ours[c] = 0;
  __syncwarp();
  for (int i = warp * BATCH; i < n; i += n_warps * BATCH) {
    float values[BATCH];
#pragma unroll
    for (int b = 0; b < BATCH; ++b)
      if (i + b < n) {
        int row = moved ? moved[start + i + b] : start + i + b;
        values[b] = rows[(long long)row * padded + column];
      }
#pragma unroll
    for (int b = 0; b < BATCH; ++b)
      if (i + b < n) {
        int at = start + i + b, row = moved ? moved[at] : at;
        double weight = weight_of(weights, row), value = weight * values[b];
        int left = from ? from[at] : -1, entered = to ? to[at] : 0;
        if (left >= 0) mine[left * 32] -= value;
        mine[entered * 32] += value;
        if (counts) {
          if (left >= 0) ours[left] -= weight;
          ours[entered] += weight;
        }
      }
  }
  __syncthreads();
  for (int c = warp; c < k; c += n_warps) {
    double total = 0;
    for (int w = 0; w < n_warps; ++w) total += totals[(w * k + c) * 32 + lane];
    sums[(long long)(first + c) * padded + column] += total;
    if (!counts) continue;
    total = 0;
    for (int w = 0; w < n_warps; ++w) total += weighed[w * k + c];
    sizes[first + c] += total;
  }
}

// Per group: the squared shift at which it has converged, and the rows of its sample.
// A sample is a lightweight coreset (Bachem et al., KDD 2018), or all rows, where it
// has room for them.
extern "C" __global__ void sample(const float *squares, const float *weights,
                                  const int *starts, const int *places, double tol,
                                  double uniform, double *cumulative, double *limits,
                                  int *chosen, float *importance) {
  __shared__ double scratch[32];
  int g = blockIdx.x, start = starts[g], n = starts[g + 1] - start;
  int place = places[g], size = places[g + 1] - place;
  int part = (n + blockDim.x - 1) / blockDim.x;
  int first = min((int)threadIdx.x * part, n), last = min(first + part, n);
  double scatter = 0, weighted = 0, total = 0;
  for (int i = first; i < last; ++i) {
    double square = squares[start + i], weight = weight_of(weights, start + i);
    scatter += square;
    weighted += weight * square;
    total += weight;
  }
  scatter = block_sum(scatter, scratch);
  weighted = block_sum(weighted, scratch);
  total = block_sum(total, scratch);
  if (threadIdx.x == 0) limits[g] = tol * scatter / n;
  if (size == n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
      chosen[place + i] = start + i;
      importance[place + i] = weight_of(weights, start + i);
    }
    return;
  }
  // Half of the chance of a row is in proportion to its weight.
  double share = weighted > 0 ? weighted / total : 1, mean = total / n, mass = 0;
  for (int i = first; i < last; ++i) {
    double weight = weight_of(weights, start + i);
    cumulative[start + i] = (1 + weight / mean) * (squares[start + i] + share);
    mass += cumulative[start + i];
  }
  double upto = block_scan(mass, scratch) - mass;
  for (int i = first; i < last; ++i)
    cumulative[start + i] = upto += cumulative[start + i];
  __syncthreads();
  const double *ladder = cumulative + start;
  for (int i = threadIdx.x; i < size; i += blockDim.x) {
    double threshold = (i + uniform) * (ladder[n - 1] / size);
    int low = 0, high = n - 1;
    while (low < high) {
      int middle = (low + high) / 2;
      if (ladder[middle] <= threshold) low = middle + 1;
      else high = middle;
    }
    double weight = weight_of(weights, start + low);
    chosen[place + i] = start + low;
    importance[place + i] =
        weight / ((1 + weight / mean) * (squares[start + low] + share));
  }
}

// Greedy k-means++ in the sample of a group, given all squared distances within it.
extern "C" __global__ void seed(const float *distances, const long long *corners,
                                const int *places, const int *chosen,
                                const float *importance, const int *ends,
                                const double *uniforms, int trials, int *seeds) {
  DYNAMIC(double, mass);  // (size,), then the closest: (size,)
  __shared__ double scratch[32];
  __shared__ int drawn[32];
  __shared__ double potentials[32];
  int g = blockIdx.x, place = places[g], size = places[g + 1] - place;
  int first = ends[g], k = ends[g + 1] - first;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
  int part = (size + blockDim.x - 1) / blockDim.x;
  int begin = min((int)threadIdx.x * part, size), end = min(begin + part, size);
  float *closest = (float *)(mass + size);
  const float *D = distances + corners[g], *weight = importance + place;
  for (int i = threadIdx.x; i < size; i += blockDim.x) closest[i] = 1;
  for (int c = 0; c < k; ++c) {
    __syncthreads();
    double own = 0;
    for (int i = begin; i < end; ++i) own += (double)(closest[i] * weight[i]);
    double upto = block_scan(own, scratch) - own;
    for (int i = begin; i < end; ++i)
      mass[i] = upto += (double)(closest[i] * weight[i]);
    __syncthreads();
    int n = c ? trials : 1;
    if ((int)threadIdx.x < n) {
      const double *uniform = uniforms + (c ? 1 + (c - 1) * trials : 0);
      double threshold = uniform[threadIdx.x] * mass[size - 1];
      int low = 0, high = size - 1;
      while (low < high) {
        int middle = (low + high) / 2;
        if (mass[middle] <= threshold) low = middle + 1;
        else high = middle;
      }
      drawn[threadIdx.x] = low;
    }
    __syncthreads();
    int best = 0;
    if (c) {
      for (int t = warp; t < n; t += n_warps) {
        const float *found = D + (long long)drawn[t] * size;
        double potential = 0;
        for (int i = lane; i < size; i += 32)
          potential += fminf(found[i], closest[i]) * weight[i];
        potential = warp_sum(potential);
        if (lane == 0) potentials[t] = potential;
      }
      __syncthreads();
      double least = potentials[0];
      for (int t = 1; t < n; ++t) least = fmin(least, potentials[t]);
      while (potentials[best] > least * (1 + SLACK)) ++best;
    }
    const float *found = D + (long long)drawn[best] * size;
    for (int i = threadIdx.x; i < size; i += blockDim.x)
      closest[i] = c ? fminf(closest[i], found[i]) : found[i];
    if (threadIdx.x == 0) seeds[first + c] = chosen[place + drawn[best]];
  }
}

// Seeds become centres: a block each.
extern "C" __global__ void start_from(const float *rows, const float *squares,
                                      const int *seeds, float *centers,
                                      float *center_squares, int padded) {
  int p = blockIdx.x, row = seeds[p];
  for (int j = threadIdx.x; j < padded; j += blockDim.x)
    centers[(long long)p * padded + j] = rows[(long long)row * padded + j];
  if (threadIdx.x == 0) center_squares[p] = squares[row];
}

// Products of the rows of a tile with points of its group: (TILE_ROWS, COLUMNS) at a
// time, a thread having 8 rows by TILE_COLUMNS points. While a stage is multiplied, the
// next one is on its way.
struct Product {
  float sums[8][TILE_COLUMNS];
  int lane_row, lane_column, warp_column;

  __device__ Product() {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    lane_row = lane % ROW_LANES, lane_column = lane / ROW_LANES;
    warp_column = warp * COLUMN_LANES * TILE_COLUMNS;
  }
  __device__ int row(int i) { return i * ROW_LANES + lane_row; }
  __device__ int column(int j) { return warp_column + j * COLUMN_LANES + lane_column; }

  __device__ void stage(float *memory, const float *A, const int *index, int n,
                        const float *B, const int *points, int m, int padded, int at) {
    const int quads = DEPTH / 4;
    const int all = at < padded ? (TILE_ROWS + COLUMNS) * quads : 0;
    for (int i = threadIdx.x; i < all; i += blockDim.x) {
      int line = i / quads, quad = i % quads * 4;
      bool is_row = line < TILE_ROWS;
      int which = is_row ? line : line - TILE_ROWS;
      if (which >= (is_row ? n : m)) continue;
      const int *list = is_row ? index : points;
      const float *base = is_row ? A : B;
      long long source = list ? list[which] : which;
      copy_16_bytes(memory + line * PITCH + quad, base + source * padded + at + quad);
    }
    end_of_copies();
  }

  __device__ void run(float *memory, const float *A, const int *index, int n,
                      const float *B, const int *points, int m, int padded) {
    const int size = (TILE_ROWS + COLUMNS) * PITCH;
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < TILE_COLUMNS; ++j) sums[i][j] = 0;
    for (int i = 0; i < STAGES - 1; ++i)
      stage(memory + i * size, A, index, n, B, points, m, padded, i * DEPTH);
    for (int at = 0, turn = 0; at < padded; at += DEPTH, turn = (turn + 1) % STAGES) {
      wait_for_copies();
      __syncthreads();  // all have it, and nobody still reads what comes next
      int next = (turn + STAGES - 1) % STAGES;
      stage(memory + next * size, A, index, n, B, points, m, padded,
            at + (STAGES - 1) * DEPTH);
      const float *a = memory + turn * size, *b = a + TILE_ROWS * PITCH;
#pragma unroll
      for (int quad = 0; quad < DEPTH; quad += 4) {
        float4 x[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = *(const float4 *)(a + row(i) * PITCH + quad);
#pragma unroll
        for (int j = 0; j < TILE_COLUMNS; ++j) {
          float4 y = *(const float4 *)(b + column(j) * PITCH + quad);
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            sums[i][j] = fmaf(x[i].x, y.x, sums[i][j]);
            sums[i][j] = fmaf(x[i].y, y.y, sums[i][j]);
            sums[i][j] = fmaf(x[i].z, y.z, sums[i][j]);
            sums[i][j] = fmaf(x[i].w, y.w, sums[i][j]);
          }
        }
      }
    }
    __syncthreads();
  }
};

// Squared distances of the rows of tiles to all points of their groups, which come
// from lists, if given: (rows, points) of each group, where `corners` says.
extern "C" __global__ void __launch_bounds__(32 * WARPS, 8 / WARPS)
    distances(const int *tiles, const float *rows, const int *index,
              const float *squares, const int *starts, const float *points,
              const int *point_index, const float *point_squares, const int *ends,
              const long long *corners, float *out, int padded) {
  DYNAMIC(float, memory);
  const int *tile = tiles + 3 * blockIdx.x;
  int g = tile[0], first = tile[1], n = tile[2], k = ends[g + 1] - ends[g];
  int begin = blockIdx.y * COLUMNS;
  if (begin >= k) return;
  int point = ends[g] + begin, m = min(k - begin, COLUMNS);
  const float *from = index ? rows : rows + (long long)first * padded;
  const float *to = point_index ? points : points + (long long)point * padded;
  Product product;
  product.run(memory, from, index ? index + first : nullptr, n, to,
              point_index ? point_index + point : nullptr, m, padded);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    int row = product.row(i);
    if (row >= n) continue;
    int which = first + row;
    float square = squares[index ? index[which] : which];
    float *line = out + corners[g] + (long long)(which - starts[g]) * k + begin;
#pragma unroll
    for (int j = 0; j < TILE_COLUMNS; ++j) {
      int column = product.column(j);
      if (column >= m) continue;
      int p = point_index ? point_index[point + column] : point + column;
      line[column] = fmaxf(square + point_squares[p] - 2 * product.sums[i][j], 0);
    }
  }
}

// Nearest centre of each row of the tiles of groups that go on, the first of several,
// and the squared distance to it.
extern "C" __global__ void __launch_bounds__(32 * WARPS, 8 / WARPS)
    nearest(const int *tiles, const int *active, const float *rows,
            const float *squares, const float *centers, const float *center_squares,
            const int *ends, int *labels, float *closest, int padded) {
  DYNAMIC(float, memory);
  __shared__ float lows[WARPS][TILE_ROWS];
  __shared__ int winners[WARPS][TILE_ROWS];
  const int *tile = tiles + 3 * blockIdx.x;
  int g = tile[0], first = tile[1], n = tile[2], k = ends[g + 1] - ends[g];
  if (!active[g]) return;
  Product product;
  float low[8];
  int winner[8];
  for (int i = 0; i < 8; ++i) low[i] = INFINITY, winner[i] = 0;
  for (int begin = 0; begin < k; begin += COLUMNS) {
    int point = ends[g] + begin, m = min(k - begin, COLUMNS);
    product.run(memory, rows + (long long)first * padded, nullptr, n,
                centers + (long long)point * padded, nullptr, m, padded);
#pragma unroll
    for (int j = 0; j < TILE_COLUMNS; ++j) {
      int column = product.column(j);
      if (column >= m) continue;
      float square = center_squares[point + column];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float rank = square - 2 * product.sums[i][j];
        if (rank < low[i]) low[i] = rank, winner[i] = begin + column;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    for (int step = ROW_LANES; step < 32; step *= 2) {
      float other = __shfl_xor_sync(FULL, low[i], step);
      int which = __shfl_xor_sync(FULL, winner[i], step);
      if (other < low[i] || (other == low[i] && which < winner[i]))
        low[i] = other, winner[i] = which;
    }
    if (product.lane_column == 0) {
      int warp = threadIdx.x / 32;
      lows[warp][product.row(i)] = low[i];
      winners[warp][product.row(i)] = winner[i];
    }
  }
  __syncthreads();
  for (int row = threadIdx.x; row < n; row += blockDim.x) {
    float best = lows[0][row];
    int label = winners[0][row];
    for (int warp = 1; warp < WARPS; ++warp)
      if (lows[warp][row] < best ||
          (lows[warp][row] == best && winners[warp][row] < label))
        best = lows[warp][row], label = winners[warp][row];
    labels[first + row] = label;
    closest[first + row] = fmaxf(best + squares[first + row], 0);
  }
}

// Per group that goes on: refill clusters that are empty, list the rows that change
// cluster, and follow them.
extern "C" __global__ void change(const int *active, const int *starts, const int *ends,
                                  const float *squares, int *found, float *closest,
                                  int *labels, int *moved, int *from, int *to,
                                  int *n_moved, int *members) {
  DYNAMIC(int, counts);  // (clusters,)
  __shared__ int tops[32], n_warp[32], n_empty, total;
  __shared__ float highs[32];
  int g = blockIdx.x, start = starts[g], n = starts[g + 1] - start;
  int k = ends[g + 1] - ends[g];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
  if (!active[g]) {
    if (threadIdx.x == 0) n_moved[g] = 0;
    return;
  }
  for (int c = threadIdx.x; c < k; c += blockDim.x) counts[c] = 0;
  if (threadIdx.x == 0) n_empty = total = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x)
    atomicAdd(counts + found[start + i], 1);
  __syncthreads();
  for (int c = threadIdx.x; c < k; c += blockDim.x)
    if (!counts[c]) atomicAdd(&n_empty, 1);
  __syncthreads();
  float noise = 0;
  for (int c = 0; n_empty && c < k; ++c) {
    if (counts[c]) continue;  // else it gets the farthest row that is not alone
    float high = -1, longest = 0;
    int top = n;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
      float distance = closest[start + i];
      longest = fmaxf(longest, squares[start + i]);
      if (distance > high && counts[found[start + i]] > 1) high = distance, top = i;
    }
    for (int step = 16; step; step /= 2) {
      float other = __shfl_xor_sync(FULL, high, step);
      int which = __shfl_xor_sync(FULL, top, step);
      if (other > high || (other == high && which < top)) high = other, top = which;
      longest = fmaxf(longest, __shfl_xor_sync(FULL, longest, step));
    }
    __syncthreads();
    if (lane == 0) highs[warp] = high, tops[warp] = top;
    __syncthreads();
    for (int w = 0; w < n_warps; ++w)
      if (highs[w] > high || (highs[w] == high && tops[w] < top))
        high = highs[w], top = tops[w];
    __syncthreads();
    if (lane == 0) highs[warp] = longest;
    __syncthreads();
    for (int w = 0; w < n_warps; ++w)
      noise = fmaxf(noise, 16 * 1.1920929e-7f * highs[w]);
    if (high <= noise) break;  // fewer distinct rows than clusters
    if (threadIdx.x == 0) {
      --counts[found[start + top]];
      found[start + top] = c;
      counts[c] = 1;
      closest[start + top] = 0;
    }
    __syncthreads();
  }
  __syncthreads();
  for (int begin = 0; begin < n; begin += blockDim.x) {
    int i = begin + threadIdx.x, row = start + i;
    bool moves = i < n && found[row] != labels[row];
    unsigned int all = __ballot_sync(FULL, moves);
    if (lane == 0) n_warp[warp] = __popc(all);
    __syncthreads();
    int at = total;
    for (int w = 0; w < warp; ++w) at += n_warp[w];
    at += start + __popc(all & ((1u << lane) - 1));
    __syncthreads();
    if (threadIdx.x == 0)
      for (int w = 0; w < n_warps; ++w) total += n_warp[w];
    if (moves) {
      moved[at] = row;
      from[at] = labels[row];
      to[at] = labels[row] = found[row];
    }
    __syncthreads();
  }
  for (int c = threadIdx.x; c < k; c += blockDim.x) members[ends[g] + c] = counts[c];
  if (threadIdx.x == 0) n_moved[g] = total;
}

// A block makes a centre of the sum of its members, or of its direction; the last one
// of a group says whether it goes on. An empty cluster has no distance.
extern "C" __global__ void settle(int *active, const int *ends, const int *owner,
                                  const double *sums, const double *sizes,
                                  const int *members, const double *limits,
                                  const int *n_moved, float *centers,
                                  float *center_squares, double *shifts,
                                  int *tickets, int *n_active, int padded,
                                  int spherical, int last) {
  __shared__ double scratch[32];
  __shared__ bool is_last;
  int p = blockIdx.x, g = owner[p], first = ends[g], k = ends[g + 1] - first;
  if (!active[g]) return;
  const double *sum = sums + (long long)p * padded;
  float *center = centers + (long long)p * padded;
  double scale = sizes[p];
  if (spherical) {
    double square = 0;
    for (int j = threadIdx.x; j < padded; j += blockDim.x) square += sum[j] * sum[j];
    scale = sqrt(block_sum(square, scratch));
  }
  double factor = members[p] && scale > 0 ? 1 / scale : 0, shift = 0, square = 0;
#pragma unroll 4
  for (int j = threadIdx.x; j < padded; j += blockDim.x) {
    float value = (float)(sum[j] * factor), change = value - center[j];
    center[j] = value;
    shift += change * change;
    square += value * value;
  }
  shift = block_sum(shift, scratch);
  square = block_sum(square, scratch);
  if (threadIdx.x == 0) {
    center_squares[p] = members[p] ? (float)square : INFINITY;
    shifts[p] = shift;
    __threadfence();
    is_last = atomicAdd(tickets + g, 1) == k - 1;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  double total = 0;
  for (int c = threadIdx.x; c < k; c += blockDim.x)
    total += ((volatile double *)shifts)[first + c];
  total = block_sum(total, scratch);
  if (threadIdx.x) return;
  tickets[g] = 0;
  if (last || !n_moved[g] || total <= limits[g]) {
    active[g] = 0;
    atomicSub(n_active, 1);
  }
}

// Nearest centre of each row, given all distances: a thread each.
extern "C" __global__ void choose(const float *distances, const long long *corners,
                                  const int *group, const int *starts, const int *ends,
                                  int *labels, float *closest, int n) {
  int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= n) return;
  int g = group[row], k = ends[g + 1] - ends[g], label = 0;
  const float *line = distances + corners[g] + (long long)(row - starts[g]) * k;
  for (int c = 1; c < k; ++c)
    if (line[c] < line[label]) label = c;
  labels[row] = label;
  closest[row] = line[label];
}

// Of each centre: its nearest row and the distance, weight and inertia of its members.
extern "C" __global__ void summarize(const float *distances, const long long *corners,
                                     const int *owner, const int *starts, const int *ends,
                                     const int *labels, const float *closest,
                                     const float *weights, int *rows, float *spreads,
                                     double *counts, double *inertia) {
  __shared__ double scratch[32];
  __shared__ float lows[32];
  __shared__ int winners[32];
  int p = blockIdx.x, g = owner[p], c = p - ends[g], k = ends[g + 1] - ends[g];
  int start = starts[g], n = starts[g + 1] - start;
  const float *column = distances + corners[g] + c;
  float low = INFINITY;
  int winner = 0;
  double weight = 0, within = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    float distance = column[(long long)i * k];
    if (distance < low) low = distance, winner = i;
    if (labels[start + i] == c) {
      double w = weight_of(weights, start + i);
      weight += w;
      within += w * closest[start + i];
    }
  }
  weight = block_sum(weight, scratch);
  within = block_sum(within, scratch);
  for (int step = 16; step; step /= 2) {
    float other = __shfl_xor_sync(FULL, low, step);
    int which = __shfl_xor_sync(FULL, winner, step);
    if (other < low || (other == low && which < winner)) low = other, winner = which;
  }
  int warp = threadIdx.x / 32;
  if (threadIdx.x % 32 == 0) lows[warp] = low, winners[warp] = winner;
  __syncthreads();
  if (threadIdx.x) return;
  for (int w = 1; w < (int)blockDim.x / 32; ++w)
    if (lows[w] < low || (lows[w] == low && winners[w] < winner))
      low = lows[w], winner = winners[w];
  rows[p] = start + winner;
  spreads[p] = low;
  counts[p] = weight;
  inertia[p] = within;
}
