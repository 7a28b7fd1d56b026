// CUDA's threads as fibers on one thread of the host, to run kernels without a GPU.
//
// A fiber runs until it has to wait for others. Asynchronous copies are done no sooner
// than they are waited for. Threads and blocks can go in reverse: where that changes a
// result, two of them race.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <ucontext.h>
#include <vector>
using std::max;
using std::min;
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define DYNAMIC(type, name) type *name = (type *)emulated::shared.data()
#define threadIdx emulated::fibers[emulated::now].thread
#define blockIdx emulated::block
#define blockDim emulated::size

struct int3_ { int x = 0, y = 0; };
struct float4 { float x, y, z, w; };

namespace emulated {
struct Copy { void *to; const void *from; };
struct Fiber {
  ucontext_t context;
  int3_ thread;
  bool done;
  std::vector<char> stack;
  std::deque<std::vector<Copy>> copies;  // the last of them is not yet complete
};
const int GUARD = 4096;  // bytes behind the shared memory, which nobody may touch
std::vector<Fiber> fibers;
std::vector<char> shared;
std::vector<double> slots;
std::vector<int> warp_count, warp_turn;
ucontext_t home;
int now, block_count, block_turn;
bool has_moved;
int3_ block, size;
std::function<void()> work;

void yield() { swapcontext(&fibers[now].context, &home); }
void enter() {
  work();
  fibers[now].done = has_moved = true;
  yield();
}
void meet(int &count, int &turn, int all) {
  int before = turn;
  has_moved = true;
  if (++count == all) count = 0, ++turn;
  else while (turn == before) yield();
  has_moved = true;
}
void meet_warp() {
  int warp = now / 32;
  meet(warp_count[warp], warp_turn[warp], min(32, size.x - warp * 32));
}
template <class T> T exchange(T value, int source) {
  memcpy(&slots[now], &value, sizeof value);
  meet_warp();
  memcpy(&value, &slots[source], sizeof value);
  meet_warp();
  return value;
}
const char *run_block(int bytes, bool reverse) {
  int threads = size.x;
  shared.assign(bytes + GUARD, (char)0xff);  // NaN: nobody has written it yet
  warp_count.assign(threads / 32 + 1, 0);
  warp_turn = warp_count;
  block_count = 0;
  for (int i = 0; i < threads; ++i) {
    Fiber &fiber = fibers[i];
    fiber.stack.resize(1 << 16);
    fiber.thread.x = i;
    fiber.done = false;
    fiber.copies.assign(1, {});
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  for (bool going = true; going;) {
    going = has_moved = false;
    for (int i = 0; i < threads; ++i) {
      now = reverse ? threads - 1 - i : i;
      if (fibers[now].done) continue;
      going = true;
      swapcontext(&home, &fibers[now].context);
    }
    if (going && !has_moved) return "threads wait for others that never come";
  }
  for (int i = bytes; i < bytes + GUARD; ++i)
    if (shared[i] != (char)0xff) return "a write beyond the shared memory";
  return nullptr;
}
// Returns what went wrong, if anything.
const char *launch(int x, int y, int threads, int bytes, bool reverse,
                   std::function<void()> f) {
  if (y > 65535) return "more blocks along y than CUDA has";
  work = f;
  size.x = threads;
  fibers.resize(threads);
  slots.resize(threads);
  for (int i = 0; i < x * y; ++i) {
    int number = reverse ? x * y - 1 - i : i;
    block.x = number % x, block.y = number / x;
    if (const char *error = run_block(bytes, reverse)) return error;
  }
  return nullptr;
}
}  // namespace emulated

inline void __syncthreads() {
  emulated::meet(emulated::block_count, emulated::block_turn, blockDim.x);
}
inline void __threadfence() {}
inline void __syncwarp() { emulated::meet_warp(); }
template <class T> T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulated::exchange(value, emulated::now ^ mask);
}
template <class T> T __shfl_up_sync(unsigned, T value, int step) {
  bool own = emulated::now % 32 < step;
  return emulated::exchange(value, own ? emulated::now : emulated::now - step);
}
inline unsigned __ballot_sync(unsigned, bool value) {
  unsigned all = 0;
  emulated::slots[emulated::now] = value;
  emulated::meet_warp();
  for (int lane = 0, first = emulated::now / 32 * 32; lane < 32; ++lane)
    all |= (unsigned)(emulated::slots[first + lane] != 0) << lane;
  emulated::meet_warp();
  return all;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int atomicAdd(int *at, int value) { return (*at += value) - value; }
inline int atomicSub(int *at, int value) { return (*at -= value) + value; }
inline void copy_16_bytes(void *to, const void *from) {
  emulated::fibers[emulated::now].copies.back().push_back({to, from});
}
inline void end_of_copies() {
  emulated::fibers[emulated::now].copies.push_back({});
}
inline void wait_for_latest(int n) {  // for all copies but the latest n groups of them
  auto &copies = emulated::fibers[emulated::now].copies;
  for (; (int)copies.size() > n + 1; copies.pop_front())
    for (auto &copy : copies.front()) memcpy(copy.to, copy.from, 16);
}
#define wait_for_copies() wait_for_latest(STAGES - 2)
