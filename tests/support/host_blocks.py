"""Blocks of threads with shared memory on the CPU: what implicit.cu needs of a GPU, in C++.

A thread is a fiber with its own stack. It runs until it needs others: at __syncthreads until the
whole block is there, at a product of tensor cores until its warp is. Threads that do not all
arrive, or that ask for different products, are an error. So are copies that were never awaited, an
address off its boundary, and a write beyond the shared memory of the launch.

A copy happens when it is awaited, as late as a GPU may do it; until then its place is NaN. Shared
memory begins as NaN. Warps run in turns, from the first to the last and back, so that a missing
barrier shows. Factors are rounded to TF32 unless `rounds` is false; eight products are added up in
double, and then to the float32 sum.
"""

BLOCKS = r"""
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>

enum { MOST_THREADS = 256, STACK = 1 << 16, MOST_COPIES = 4096 };
enum State { READY, AT_PRODUCT, AT_BARRIER, DONE };
struct Copy { float *to; const float *from; bool inside; int group; };
struct Thread {
  jmp_buf here;
  ucontext_t first;
  State state;
  bool begun;
  const unsigned *a, *b;
  float *c;
  int group, copies;
  Copy copy[MOST_COPIES];
};
static Thread threads[MOST_THREADS];
static char stacks[MOST_THREADS][STACK];
static jmp_buf scheduler;
static int current;
static bool rounds = true;
static const char *failure;
static void (*body)();
alignas(16) float memory[1 << 16];
static size_t shared_bytes;

static void fail(const char *why) { if (!failure) failure = why; }

static void leave(State state) {
  Thread &own = threads[current];
  own.state = state;
  if (!_setjmp(own.here)) _longjmp(scheduler, 1);
}

static void enter() {
  body();
  leave(DONE);
}

static void run(int t) {
  current = threadIdx.x = t;
  if (_setjmp(scheduler)) return;
  Thread &next = threads[t];
  if (next.begun) _longjmp(next.here, 1);
  next.begun = true;
  setcontext(&next.first);
}

static unsigned round_to_tf32(float x) {
  unsigned bits;
  if (x != x) return 0x7FC00000;
  memcpy(&bits, &x, 4);
  return rounds ? (bits + 0x1000) & 0xFFFFE000 : bits;
}

static void copy_async(float *to, const float *from, bool inside) {
  Thread &own = threads[current];
  const size_t place = (char *)to - (char *)memory;
  if (place % 16 || (size_t)from % 16) fail("a copy off the boundary of 16 bytes");
  if (place + 16 > shared_bytes) return fail("a copy beyond the shared memory");
  if (own.copies == MOST_COPIES) return fail("too many copies at once");
  own.copy[own.copies++] = {to, from, inside, own.group};
  memset(to, 0xFF, 16);
}

static void end_group() { threads[current].group++; }

static void await(int last) {
  Thread &own = threads[current];
  int left = 0;
  for (int i = 0; i < own.copies; i++) {
    const Copy &each = own.copy[i];
    if (each.group >= own.group - last) own.copy[left++] = each;
    else if (each.inside) memcpy(each.to, each.from, 16);
    else memset(each.to, 0, 16);
  }
  own.copies = left;
}
template <int LAST> static void await_groups() { await(LAST); }

static void __syncthreads() { leave(AT_BARRIER); }

static void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  Thread &own = threads[current];
  own.a = a, own.b = b, own.c = c;
  leave(AT_PRODUCT);
}

static void product(int warp) {  // the layout of fragments: PTX ISA, mma.m16n8k8 of .tf32
  float a[16][8], b[8][8];
  for (int lane = 0; lane < 32; lane++) {
    const Thread &own = threads[warp * 32 + lane];
    for (int q = 0; q < 4; q++)
      memcpy(&a[lane / 4 + q % 2 * 8][lane % 4 + q / 2 * 4], own.a + q, 4);
    for (int q = 0; q < 2; q++) memcpy(&b[lane % 4 + q * 4][lane / 4], own.b + q, 4);
  }
  for (int lane = 0; lane < 32; lane++)
    for (int q = 0; q < 4; q++) {
      const int row = lane / 4 + q / 2 * 8, column = lane % 4 * 2 + q % 2;
      double sum = 0;
#pragma GCC unroll 8
      for (int k = 0; k < 8; k++) sum += (double)a[row][k] * b[k][column];
      float &c = threads[warp * 32 + lane].c[q];
      c = (float)(c + sum);
    }
}

static void run_warp(int warp) {  // to the next barrier
  for (bool again = true; again && !failure;) {
    int at[4] = {};
    for (int lane = 0; lane < 32; lane++) {
      Thread &own = threads[warp * 32 + lane];
      if (own.state != DONE) run(warp * 32 + lane);
      at[own.state]++;
    }
    again = at[AT_PRODUCT] > 0;
    if (at[AT_PRODUCT] % 32 || at[AT_BARRIER] % 32) fail("a warp's threads do not meet");
    if (again && !failure) product(warp);
  }
}

static void run_block(int warps) {
  memset(memory, 0xFF, sizeof memory);
  for (int t = 0; t < warps * 32; t++) {
    Thread &own = threads[t];
    own.state = READY, own.begun = false, own.group = own.copies = 0;
    getcontext(&own.first);
    own.first.uc_stack.ss_sp = stacks[t];
    own.first.uc_stack.ss_size = STACK;
    own.first.uc_link = nullptr;
    makecontext(&own.first, enter, 0);
  }
  for (bool forward = true, again = true; again && !failure; forward = !forward) {
    int done = 0;
    for (int i = 0; i < warps && !failure; i++) {
      const int warp = forward ? i : warps - 1 - i;
      run_warp(warp);
      done += threads[warp * 32].state == DONE;
    }
    again = done == 0;
    if (done % warps) fail("a block's warps do not meet");
  }
  for (int t = 0; t < warps * 32; t++)
    if (threads[t].copies && !failure) fail("a copy that nothing awaits");
}

template <class... A>
static const char *launch_blocks(void (*kernel)(A...), const int *grid, int block, int shared,
                                 bool round, void **arguments) {
  static void (*chosen)(A...);
  static void **given;
  failure = nullptr, chosen = kernel, given = arguments, rounds = round, shared_bytes = shared;
  if (block % 32 || block > MOST_THREADS || shared > sizeof memory) return "too large";
  body = [] { int a = 0; Call{chosen, *static_cast<A *>(given[a++])...}; };
  for (int z = 0; z < grid[2] && !failure; z++)
    for (int x = 0; x < grid[0] && !failure; x++) {
      blockIdx.x = x;
      blockIdx.z = z;
      run_block(block / 32);
    }
  return failure;
}
"""
ENTRY = """extern "C" const char *{}(const int *grid, int block, int shared, int round,
void **arguments) {{ return launch_blocks({}, grid, block, shared, round, arguments); }}
"""
