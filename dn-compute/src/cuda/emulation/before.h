// A graphics card made of a thread: what `.cu` files need, so that a C++ compiler builds them and their arithmetic and indexing
// can be tested without a card. Only tests use it.
//
// The threads of a block are coroutines that change where CUDA lets them wait for another: at barriers and at exchanges within a
// warp. Between those they run in an order that changes from block to block, shared memory begins with garbage, and a wait that
// not all take part in ends the program: a missing barrier is seen in the results, a wrong one stops the test.

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("emulated_shared")))
#ifndef __CUDA_ARCH__
#error "say which architecture is emulated"
#endif

struct dim3 {
  unsigned x, y, z;
};
struct uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};

static dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace emulated {

enum State { READY, AT_WARP, AT_BLOCK, DONE };

const unsigned MOST_THREADS = 1024, STACK = 128 * 1024, LANES = 32;

struct Thread {
  jmp_buf where;
  State state;
  bool started;
};
// What the lanes of a warp give each other, twice: one exchange may begin before all have read the last one.
struct Warp {
  uint64_t given[2][LANES][8];
  unsigned turn[LANES];
  unsigned arrived;
};

static Thread threads[MOST_THREADS];
static Warp warps[MOST_THREADS / LANES];
static char* stacks;
static jmp_buf scheduler;
static ucontext_t scheduler_context, thread_context;
static unsigned current, count;
static void call_kernel();

[[noreturn]] static void stop(const char* what) {
  fprintf(stderr, "emulated card: %s (block %u,%u,%u thread %u)\n", what, blockIdx.x, blockIdx.y, blockIdx.z, current);
  abort();
}
static void leave() {
  if (_setjmp(threads[current].where) == 0) _longjmp(scheduler, 1);
}
static void main_of_thread() {
  for (;;) {
    call_kernel();
    threads[current].state = DONE;
    leave();
  }
}
static void enter(unsigned thread) {
  current = thread;
  threadIdx = {thread, 0, 0};
  if (_setjmp(scheduler) != 0) return;
  if (threads[thread].started) _longjmp(threads[thread].where, 1);
  threads[thread].started = true;
  getcontext(&thread_context);
  thread_context.uc_stack.ss_sp = stacks + (size_t)thread * STACK;
  thread_context.uc_stack.ss_size = STACK;
  thread_context.uc_link = nullptr;
  makecontext(&thread_context, main_of_thread, 0);
  swapcontext(&scheduler_context, &thread_context);
}

static void wait_for_block() {
  unsigned waiting = 1;
  for (unsigned i = 0; i < count; i++) {
    if (threads[i].state == DONE) stop("a barrier after a thread has ended");
    waiting += i != current && threads[i].state == AT_BLOCK;
  }
  if (waiting == count) {
    for (unsigned i = 0; i < count; i++) threads[i].state = READY;
  } else {
    threads[current].state = AT_BLOCK;
    leave();
  }
}
// Gives `words` of this lane to its warp and waits for those of the others.
static const uint64_t (*exchange(const uint64_t* words, unsigned length))[8] {
  unsigned lane = current % LANES;
  Warp& warp = warps[current / LANES];
  unsigned turn = warp.turn[lane]++ % 2;
  memcpy(warp.given[turn][lane], words, length * sizeof(uint64_t));
  if (++warp.arrived == LANES) {
    warp.arrived = 0;
    for (unsigned i = 0; i < LANES; i++) threads[current / LANES * LANES + i].state = READY;
  } else {
    threads[current].state = AT_WARP;
    leave();
  }
  return warp.given[turn];
}

// All threads of one block, in an order of its own.
static void run_block(unsigned order) {
  static const unsigned STEPS[4] = {1, 0, 37, 101};
  for (unsigned i = 0; i < count; i++) threads[i].state = READY;
  memset(warps, 0, sizeof(warps));
  unsigned step = order % 4 == 1 ? count - 1 : STEPS[order % 4];
  for (unsigned ended = 0; ended < count;) {
    bool moved = false;
    unsigned at = order % 4 == 1 ? count - 1 : order % count;
    for (unsigned i = 0; i < count; i++, at = (at + step) % count) {
      if (threads[at].state != READY) continue;
      moved = true;
      enter(at);
      ended += threads[at].state == DONE;
    }
    if (!moved) stop("threads wait for others that never come");
  }
}

}  // namespace emulated

// ---- what CUDA has built in ----

static inline void __syncthreads() { emulated::wait_for_block(); }
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, unsigned other) {
  if (mask != 0xffffffffu) emulated::stop("only whole warps exchange values");
  uint64_t word = 0;
  memcpy(&word, &value, sizeof(T));
  const uint64_t(*given)[8] = emulated::exchange(&word, 1);
  memcpy(&value, given[(threadIdx.x ^ other) % 32], sizeof(T));
  return value;
}
static inline int __dp4a(int a, int b, int c) {
  int64_t sum = c;
  for (int i = 0; i < 4; i++) sum += (int)(int8_t)(a >> (8 * i)) * (int)(int8_t)(b >> (8 * i));
  if (sum != (int)sum) emulated::stop("a product of four bytes leaves 32 bits");
  return (int)sum;
}
// d += a * b, 16 x COLUMNS times COLUMNS x 8, laid out over a warp as the PTX ISA says.
template <int COLUMNS>
static inline void emulated_mma(int* d, const unsigned* a, const unsigned* b) {
  uint64_t own[6];
  for (int i = 0; i < COLUMNS / 8; i++) own[i] = a[i];
  for (int i = 0; i < COLUMNS / 16; i++) own[4 + i] = b[i];
  const uint64_t(*given)[8] = emulated::exchange(own, 6);
  unsigned lane = threadIdx.x % 32;
  for (int c = 0; c < 4; c++) {
    unsigned row = lane / 4 + (c >= 2 ? 8 : 0), col = lane % 4 * 2 + c % 2;
    int64_t sum = d[c];
    for (int k = 0; k < COLUMNS; k++) {
      unsigned left = row % 8 * 4 + k % 16 / 4, right = col * 4 + k % 16 / 4;
      int x = (int8_t)(given[left][(row >= 8) + 2 * (k / 16)] >> (8 * (k % 4)));
      int y = (int8_t)(given[right][4 + k / 16] >> (8 * (k % 4)));
      sum += x * y;
    }
    if (sum != (int)sum) emulated::stop("a product of tiles leaves 32 bits");
    d[c] = (int)sum;
  }
}
static inline void mma_32(int* d, const unsigned* a, const unsigned* b) { emulated_mma<32>(d, a, b); }
static inline void mma_16(int* d, const unsigned* a, const unsigned* b) { emulated_mma<16>(d, a, b); }

static inline unsigned __float_as_uint(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  return bits;
}
static inline float __uint_as_float(unsigned bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }
static inline float __ll2float_rn(long long v) { return (float)v; }
static inline float __int2float_rn(int v) { return (float)v; }
static inline float __uint2float_rn(unsigned v) { return (float)v; }
// As the instruction converts: what does not fit is the nearest that does, what is no number zero.
static inline int __float2int_rn(float x) {
  if (x != x) return 0;
  return x >= 2147483648.0f ? 2147483647 : x < -2147483648.0f ? -2147483647 - 1 : (int)std::nearbyint(x);
}
static inline unsigned __float2uint_rn(float x) {
  return !(x > 0) ? 0 : x >= 4294967296.0f ? 4294967295u : (unsigned)std::nearbyint(x);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
template <class T>
static inline T atomicAdd(T* to, T value) {
  T old = *to;
  *to += value;
  return old;
}
static inline int atomicMax(int* to, int value) {
  int old = *to;
  if (value > old) *to = value;
  return old;
}
static inline unsigned atomicOr(unsigned* to, unsigned value) {
  unsigned old = *to;
  *to |= value;
  return old;
}
