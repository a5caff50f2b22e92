
/* ---- convolution without columns: see implicit.py

One body for three products A*B of matrices that are never in memory as a whole. A block gathers
DEEP columns of A and rows of B at a time into shared memory, and its warps multiply what is there
by tensor cores while the next ones arrive.

    USE         A (rows x depth)                        B                 result
    CONVOLVE    windows of x: pixels x (taps, C)        W                 y, after F
    TRANSPOSE   pixels of y: pixels of a phase          W^T               x, after F
                x (taps of the phase, D)
    GRADIENT    windows of x, transposed:               y                 a part of dW
                (taps, C) x pixels

A phase (blockIdx.z) is the pixels of x that see the same taps: every SH-th row, every SW-th column.
A part of dW (blockIdx.z) is the sum over some of the pixels.

Tile of M x N numbers: a warp has M/DOWN x N/2 of them in registers, 64 x 64 in a large tile. For 8
steps of depth it reads 64 + 64 times 8 numbers from shared memory, which takes 32 cycles, and does
32 mma; so shared memory and tensor cores are in balance (32 x 32 would take twice as many cycles
for each mma). A part of DEEP takes 128 mma, 128 reads, as many conversions (sm_90), and 130 to 300
instructions for the copies. From the L2 cache a tile reads 4 (M + N) bytes for 2 M N operations of
each step: 43 operations a byte if it has 256 x 128, 32 if 128 x 128, 21 if 128 x 64; so the larger,
the better, if there are enough of them. STAGES parts of DEEP are in shared memory, of which two are
on their way: 108 KiB in a tile of 128 x 128, so two such blocks share a multiprocessor.

No two threads of a warp read from the same bank at once. A thread has row g = lane / 4 and depth
t = lane % 4 of a fragment. Where depth is contiguous, rows are DEEP + 4 numbers apart, so the bank
is 4 g + t; otherwise steps of depth are M + 8 apart, and it is 8 t + g: in each case 32 different
ones. Copies are of 16 bytes, which neither padding takes off their boundary.

C and D must be multiples of DEEP, so that a part of depth belongs to one tap, and a kernel has at
most 16 rows and columns: which of them are inside of the image is kept as bits. */

enum { CONVOLVE, TRANSPOSE, GRADIENT };
enum { DEEP = 32, STAGES = 3 };

#ifdef __CUDACC__  // a CPU has others: those of the tests

__device__ inline unsigned round_to_tf32(float x) {
  unsigned rounded;  // by one instruction, which rounds ties to even; before sm_90 by two or three
  if (__CUDA_ARCH__ >= 900) asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  else asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return rounded;
}

/* *to (16 bytes) = *from, or 0 if outside; done when its group is */
__device__ inline void copy_async(float *to, const float *from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::
               "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}

__device__ inline void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/* Wait for all groups but the last ones */
template <int LAST> __device__ inline void await_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(LAST) : "memory");
}

/* c (16 x 8) += a (16 x 8) b (8 x 8), by a whole warp */
__device__ inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

/* Rows, or columns, of the pixels that a product is about: pixel p < count lies at first + p * step
   of the gathered image, and tap u < taps, weight phase + u * apart, sees what is `sign` * u on */
struct Axis { int count, first, step, taps, phase, apart, sign; };

__device__ inline Axis axis(int use, int size, int out, int k, int s, int before, int phase) {
  if (use != TRANSPOSE) return {out, -before, s, k, 0, 1, 1};
  const int first = (before - phase + s - 1) / s;
  // constants in the usual case: the stride s divides both size and k
  const int count = size % s ? (size + before - phase + s - 1) / s - first : size / s;
  const int taps = k % s ? (k - phase + s - 1) / s : k / s;
  return {count, first, 1, taps, phase, s, -1};
}

/* left: x, or y if TRANSPOSE; right: W, or y if GRADIENT; b of each column, or null;
   out: y, x, or the parts (parts, taps * C, D) of dW;  n images */
template <class T, class G, class F, int USE, int M, int N>
__global__ void __launch_bounds__(M > 128 ? 256 : 128)
implicit(const T *left, const T *right, const T *b, T *out, int n, int parts, double a) {
  constexpr int DOWN = M > 128 ? 4 : 2, THREADS = 64 * DOWN, WM = M / DOWN, WN = N / 2;
  constexpr bool A_BY_ROW = USE != GRADIENT, B_BY_COLUMN = USE == TRANSPOSE;  // contiguous depth
  constexpr int A_APART = A_BY_ROW ? DEEP + 4 : M + 8, A_SIZE = (A_BY_ROW ? M : DEEP) * A_APART;
  constexpr int B_APART = B_BY_COLUMN ? DEEP + 4 : N + 8;
  constexpr int STAGE = A_SIZE + (B_BY_COLUMN ? N : DEEP) * B_APART;
  // a thread copies 4 numbers at once: threads along a row, or across a step of depth, of A or B
  constexpr int ALONG = DEEP / 4, ROWS = THREADS / ALONG, ACROSS = M / 4, WIDE = N / 4;
  constexpr int A_STEPS = THREADS / ACROSS, B_STEPS = THREADS / WIDE;
  extern __shared__ __align__(16) float memory[];

  const int H = USE == TRANSPOSE ? G::P : G::H, W = USE == TRANSPOSE ? G::Q : G::W;
  const int C = USE == TRANSPOSE ? G::D : G::C, columns = USE == TRANSPOSE ? G::C : G::D;
  const int z = (int)blockIdx.z, thread = (int)threadIdx.x;
  const Axis down = axis(USE, G::H, G::P, G::KH, G::SH, G::TOP, z / G::SW);
  const Axis across = axis(USE, G::W, G::Q, G::KW, G::SW, G::LEFT, z % G::SW);
  const int pixels = n * down.count * across.count, taps = down.taps * across.taps;
  const int rows = USE == GRADIENT ? taps * C : pixels, blocks_wide = (columns + N - 1) / N;
  const int row = (int)blockIdx.x / blocks_wide * M, column = (int)blockIdx.x % blocks_wide * N;
  if (row >= rows) return;  // phases may have fewer pixels than the first one
  const int all = (pixels + DEEP - 1) / DEEP, share = (all + parts - 1) / parts;
  const int from = USE == GRADIENT ? z * share : 0;
  const int to = USE == GRADIENT ? least(all, from + share) : taps * (C / DEEP);

  int at[M / ROWS], seen[M / ROWS];  // each pixel's first tap; bits: rows and columns inside
#pragma unroll  // or these would be in local memory, as the sums below
  for (int r = 0; r < M / ROWS; r++) {
    const int pixel = row + thread / ALONG + r * ROWS, line = pixel / across.count;
    const int h = line % down.count * down.step + down.first;
    const int w = pixel % across.count * across.step + across.first;
    at[r] = ((line / down.count * H + h) * W + w) * C + thread % ALONG * 4;
    seen[r] = 0;
    for (int u = 0; pixel < pixels && u < down.taps; u++)
      seen[r] |= ((unsigned)(h + u * down.sign) < H) << u;
    for (int v = 0; v < across.taps; v++)
      seen[r] |= ((unsigned)(w + v * across.sign) < W) << (16 + v);
  }
  const int own = row + thread % ACROSS * 4, own_i = own / C / G::KW, own_j = own / C % G::KW;

  auto fetch = [&](int part) {
    float *A = memory + (part - from) % STAGES * STAGE, *B = A + A_SIZE;
    const int tap = part % taps, e = part / taps * DEEP;  // neighboring taps see the same numbers
    const int u = tap / across.taps, v = tap % across.taps;
    if (A_BY_ROW) {
      const int bits = 1 << u | 1 << (16 + v);
      const int further = (u * down.sign * W + v * across.sign) * C + e;
      for (int r = 0; r < M / ROWS; r++)
        copy_async(A + (thread / ALONG + r * ROWS) * A_APART + thread % ALONG * 4,
                   left + at[r] + further, (seen[r] & bits) == bits);
    } else {
#pragma unroll
      for (int r = 0, step = thread / ACROSS; r < DEEP; r += A_STEPS, step += A_STEPS) {
        const int pixel = part * DEEP + step, image = pixel / G::Q / G::P;
        const int y = pixel / G::Q % G::P * G::SH - G::TOP + own_i;
        const int x = pixel % G::Q * G::SW - G::LEFT + own_j;
        const bool inside = (unsigned)y < H && (unsigned)x < W && pixel < pixels && own < rows;
        copy_async(A + step * A_APART + thread % ACROSS * 4,
                   left + ((image * H + y) * W + x) * C + own % C, inside);
      }
    }
    if (B_BY_COLUMN) {
      const int weight = (down.phase + u * down.apart) * G::KW + across.phase + v * across.apart;
#pragma unroll
      for (int r = 0, c = thread / ALONG; r < N; r += ROWS, c += ROWS)
        copy_async(B + c * B_APART + thread % ALONG * 4,
                   right + (weight * G::C + column + c) * G::D + e + thread % ALONG * 4,
                   column + c < columns);
    } else {
      const int k = thread % WIDE * 4, first = A_BY_ROW ? tap * C + e : part * DEEP;
#pragma unroll
      for (int r = 0, step = thread / WIDE; r < DEEP; r += B_STEPS, step += B_STEPS)
        copy_async(B + step * B_APART + k, right + (first + step) * G::D + column + k,
                   column + k < columns && (A_BY_ROW || first + step < pixels));
    }
  };

  const int g = thread % 32 / 4, t = thread % 4;
  const int warp_row = thread / 64 * WM, warp_column = thread / 32 % 2 * WN;
  float sum[WM / 16][WN / 8][4] = {};
  for (int part = from - (STAGES - 1); part < to; part++) {
    await_groups<STAGES - 2>();
    __syncthreads();  // everyone's copies are there, and everyone has read the stage before it
    if (part + STAGES - 1 < to) fetch(part + STAGES - 1);
    end_group();
    if (part < from) continue;  // the first stages are only on their way
    const float *A = memory + (part - from) % STAGES * STAGE, *B = A + A_SIZE;
#pragma unroll
    for (int k = 0; k < DEEP; k += 8) {
      unsigned lefts[WM / 16][4], rights[WN / 8][2];
      for (int i = 0; i < WM / 16; i++)
        for (int q = 0; q < 4; q++) {
          const int r = warp_row + i * 16 + g + q % 2 * 8, d = k + t + q / 2 * 4;
          lefts[i][q] = round_to_tf32(A_BY_ROW ? A[r * A_APART + d] : A[d * A_APART + r]);
        }
      for (int j = 0; j < WN / 8; j++)
        for (int q = 0; q < 2; q++) {
          const int c = warp_column + j * 8 + g, d = k + t + q * 4;
          rights[j][q] = round_to_tf32(B_BY_COLUMN ? B[c * B_APART + d] : B[d * B_APART + c]);
        }
      for (int i = 0; i < WM / 16; i++)
        for (int j = 0; j < WN / 8; j++) multiply_add(sum[i][j], lefts[i], rights[j]);
    }
  }

#pragma unroll
  for (int i = 0; i < WM / 8; i++) {
    const int r = row + warp_row + i * 8 + g;
    if (r >= rows) continue;
    int place = USE == GRADIENT ? z * rows + r : r;
    if (USE == TRANSPOSE) {
      const int p = r / across.count % down.count + down.first, q = r % across.count + across.first;
      const int y = p * G::SH + down.phase - G::TOP, x = q * G::SW + across.phase - G::LEFT;
      place = (r / across.count / down.count * G::H + y) * G::W + x;
    }
    for (int j = 0; j < WN / 8; j++) {
      const int c = column + warp_column + j * 8 + 2 * t;
      if (c >= columns) continue;
      Pack<T, 2> values;
      for (int q = 0; q < 2; q++) {
        const T value = sum[i / 2][j][i % 2 * 2 + q];
        values.at[q] = F::forward(b ? value + b[c + q] : value, T(a));
      }
      store<T, 2>(out + place * columns + c, values);
    }
  }
}
