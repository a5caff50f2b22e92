/* Every CUDA kernel of minigan, except that of implicit.cu. kernels.py compiles them at run time and
   reads their signatures.

Each kernel is a loop over independent numbers: no shared memory, no barriers, no atomics. So a sum
over many rows takes two or more rounds. Threads lie along the channels (neighbors read neighboring
numbers), each adds up one strip of rows, and `fold` adds the strips, always in the same order. The
results have the same bits in every run, and a CPU can run the kernels thread by thread, as the
tests do. Sums are double: a strip may have thousands of rows, and float rounds at each of them.

Template parameters
    T   float or double: gradient checks run in double on the device
    G   geometry of a convolution, known at compile time, so that / and % become multiplications:
        H W C        the larger image, which Conv2d reads and ConvTranspose2d writes
        P Q D        the smaller one: rows, columns, channels
        KH KW SH SW  kernel and stride
        TOP LEFT     padding before the first row and column
    F   activation, with its constant a (the slope of LeakyReLU)
    V   channels that a thread takes at once: a pack of 16 bytes if it divides them, otherwise 1
Plain arguments are int (32 bits) or double. Arrays are contiguous, channels last. */

#define EACH(i, count)                                                         \
  for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < (count); \
       i += (int)(blockDim.x * gridDim.x))

template <class T, int V> struct alignas(V * sizeof(T)) Pack { T at[V]; };

template <class T, int V> __device__ inline Pack<T, V> load(const T *from) {
  return *reinterpret_cast<const Pack<T, V> *>(from);
}

template <class T, int V> __device__ inline void store(T *to, const Pack<T, V> &values) {
  *reinterpret_cast<Pack<T, V> *>(to) = values;
}

__device__ inline int least(int a, int b) { return a < b ? a : b; }

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float log_one_plus(float x) { return log1pf(x); }
__device__ inline double log_one_plus(double x) { return log1p(x); }
__device__ inline float tangent(float x) { return tanhf(x); }
__device__ inline double tangent(double x) { return tanh(x); }
__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(x < -88.0f ? 88.0f : -x)); }
__device__ inline double sigmoid(double x) { return 1.0 / (1.0 + exp(x < -709.0 ? 709.0 : -x)); }

/* ---- activations: y = forward(x), dx = dy * slope(y). NaN stays NaN */

struct Identity {
  template <class T> __device__ static T forward(T x, T) { return x; }
  template <class T> __device__ static T slope(T, T) { return T(1); }
};
struct ReLU {
  template <class T> __device__ static T forward(T x, T) { return x < T(0) ? T(0) : x; }
  template <class T> __device__ static T slope(T y, T) { return y > T(0) ? T(1) : T(0); }
};
struct LeakyReLU {
  template <class T> __device__ static T forward(T x, T a) { return x > T(0) ? x : a * x; }
  template <class T> __device__ static T slope(T y, T a) { return y > T(0) ? T(1) : a; }
};
struct Tanh {
  template <class T> __device__ static T forward(T x, T) { return tangent(x); }
  template <class T> __device__ static T slope(T y, T) { return T(1) - y * y; }
};
struct Sigmoid {
  template <class T> __device__ static T forward(T x, T) { return sigmoid(x); }
  template <class T> __device__ static T slope(T y, T) { return y * (T(1) - y); }
};

/* ---- convolution: columns */

/* cols (n*P*Q, KH*KW*C) = for each output pixel, its window of x (n, H, W, C).
   One row of a window is contiguous in x: KW*C numbers, of which a thread takes V. If V divides C
   they belong to one pixel, so either all of them are in the image or none */
template <class T, class G, int V> __global__ void im2col(const T *x, T *cols, int n) {
  EACH(t, n * G::P * G::Q * G::KH * (G::KW * G::C / V)) {
    const int e = t % (G::KW * G::C / V) * V, tap = t / (G::KW * G::C / V), i = tap % G::KH;
    const int m = tap / G::KH, q = m % G::Q, p = m / G::Q % G::P, image = m / (G::Q * G::P);
    const int h = p * G::SH + i - G::TOP, first = (q * G::SW - G::LEFT) * G::C + e;
    Pack<T, V> values = {};
    if (h >= 0 && h < G::H) {
      const T *row = x + (image * G::H + h) * (G::W * G::C);
      if (G::C % V == 0) {
        if (first >= 0 && first < G::W * G::C) values = load<T, V>(row + first);
      } else {
        for (int k = 0; k < V; k++)
          if (first + k >= 0 && first + k < G::W * G::C) values.at[k] = row[first + k];
      }
    }
    store<T, V>(cols + t * V, values);
  }
}

/* x (n, H, W, C) = F(sum over the copies of each pixel in cols, + b);  b (C,) or null.
   A pixel gathers its copies, at every stride-th tap only (its own phase): nothing is scattered */
template <class T, class G, class F, int V>
__global__ void col2im(const T *cols, const T *b, T *x, int n, double a) {
  EACH(t, n * G::H * G::W * (G::C / V)) {
    const int c = t % (G::C / V) * V, pixel = t / (G::C / V);
    const int w = pixel % G::W + G::LEFT, h = pixel / G::W % G::H + G::TOP;
    const int image = pixel / (G::W * G::H);
    Pack<T, V> sum = {};
    for (int i = h % G::SH, p = h / G::SH; i < G::KH && p >= 0; i += G::SH, p--) {
      if (p >= G::P) continue;
      for (int j = w % G::SW, q = w / G::SW; j < G::KW && q >= 0; j += G::SW, q--) {
        if (q >= G::Q) continue;
        const int m = (image * G::P + p) * G::Q + q;
        const Pack<T, V> copy = load<T, V>(cols + ((m * G::KH + i) * G::KW + j) * G::C + c);
        for (int k = 0; k < V; k++) sum.at[k] += copy.at[k];
      }
    }
    for (int k = 0; k < V; k++)
      sum.at[k] = F::forward(b ? sum.at[k] + b[c + k] : sum.at[k], T(a));
    store<T, V>(x + t * V, sum);
  }
}

/* y (n, P, Q, D) = F(conv(x, weights) + b), read directly from an image of few channels;
   weights (KH, KW, C, D), b (D,) or null.
   A thread computes a tile of FEW pixels and V channels (one or two packs): it reads each number of
   x once for all V channels, and each weight once for all FEW pixels */
enum { FEW = 4 };
template <class T, class G, class F, int V>
__global__ void few_forward(const T *x, const T *weights, const T *b, T *y, int n, double a) {
  constexpr int PACK = V * sizeof(T) > 16 ? 16 / sizeof(T) : V;
  const int pixels = n * G::P * G::Q;
  EACH(t, (pixels + FEW - 1) / FEW * (G::D / V)) {
    const int o = t % (G::D / V) * V, first = t / (G::D / V) * FEW;
    int h[FEW], w[FEW];
    const T *corner[FEW];
    T sum[FEW][V] = {};
    for (int r = 0; r < FEW; r++) {
      const int m = least(first + r, pixels - 1);
      h[r] = m / G::Q % G::P * G::SH - G::TOP;
      w[r] = m % G::Q * G::SW - G::LEFT;
      corner[r] = x + ((m / (G::Q * G::P) * G::H + h[r]) * G::W + w[r]) * G::C;
    }
    for (int i = 0; i < G::KH; i++) {
#pragma unroll
      for (int j = 0; j < G::KW; j++) {
        bool inside[FEW];
        for (int r = 0; r < FEW; r++)
          inside[r] = h[r] + i >= 0 && h[r] + i < G::H && w[r] + j >= 0 && w[r] + j < G::W;
#pragma unroll
        for (int c = 0; c < G::C; c++) {
          Pack<T, PACK> weight[V / PACK];
          const T *of_tap = weights + ((i * G::KW + j) * G::C + c) * G::D + o;
          for (int k = 0; k < V; k += PACK) weight[k / PACK] = load<T, PACK>(of_tap + k);
          for (int r = 0; r < FEW; r++) {
            const T value = inside[r] ? corner[r][(i * G::W + j) * G::C + c] : T(0);
            for (int k = 0; k < V; k++) sum[r][k] += value * weight[k / PACK].at[k % PACK];
          }
        }
      }
    }
    for (int r = 0; r < FEW; r++)
      if (first + r < pixels)
        for (int k = 0; k < V; k += PACK) {
          Pack<T, PACK> out;
          for (int l = 0; l < PACK; l++)
            out.at[l] = F::forward(b ? sum[r][k + l] + b[o + k + l] : sum[r][k + l], T(a));
          store<T, PACK>(y + (first + r) * G::D + o + k, out);
        }
  }
}

/* ---- activations, biases and their gradients, over rows of c channels */

/* y = F(x + b);  b (c,) or null; y may be x */
template <class T, class F, int V>
__global__ void activate(const T *x, const T *b, T *y, int rows, int c, double a) {
  EACH(t, rows * (c / V)) {
    const int lane = t % (c / V) * V;
    Pack<T, V> values = load<T, V>(x + t * V);
    for (int k = 0; k < V; k++)
      values.at[k] = F::forward(b ? values.at[k] + b[lane + k] : values.at[k], T(a));
    store<T, V>(y + t * V, values);
  }
}

/* dx = dy * F'(y);  dx may be dy */
template <class T, class F, int V>
__global__ void activate_backward(const T *dy, const T *y, T *dx, int size, double a) {
  EACH(t, size / V) {
    Pack<T, V> values = load<T, V>(dy + t * V);
    const Pack<T, V> out = load<T, V>(y + t * V);
    for (int k = 0; k < V; k++) values.at[k] *= F::slope(out.at[k], T(a));
    store<T, V>(dx + t * V, values);
  }
}

/* g = dy * F'(y), and sums (strips, c) of g: the gradient of a bias. y and g may be null if F is
   Identity. A strip is every `strips`-th row, so neighboring threads read neighboring numbers
   even if there is only one channel */
template <class T, class F, int V>
__global__ void sum_rows(const T *dy, const T *y, T *g, T *sums, int rows, int c, int strips,
                         double a) {
  EACH(t, strips * (c / V)) {
    const int lane = t % (c / V) * V, s = t / (c / V);
    double sum[V] = {};
#pragma unroll 4
    for (int row = s; row < rows; row += strips) {
      Pack<T, V> values = load<T, V>(dy + row * c + lane);
      if (y) {
        const Pack<T, V> out = load<T, V>(y + row * c + lane);
        for (int k = 0; k < V; k++) values.at[k] *= F::slope(out.at[k], T(a));
      }
      if (g) store<T, V>(g + row * c + lane, values);
      for (int k = 0; k < V; k++) sum[k] += values.at[k];
    }
    for (int k = 0; k < V; k++) sums[s * c + lane + k] = T(sum[k]);
  }
}

/* out (parts, ..., width) = scale * sums over each `group` of rows of in (parts, count, width);
   if add, out += that */
template <class T>
__global__ void fold(const T *in, T *out, int parts, int count, int width, int group, double scale,
                     int add) {
  const int folds = (count + group - 1) / group;
  EACH(t, parts * folds * width) {
    const int column = t % width, first = t / width % folds * group, part = t / width / folds;
    double sum = 0;
#pragma unroll 16
    for (int row = first; row < least(count, first + group); row++)
      sum += in[(part * count + row) * width + column];
    out[t] = add ? T(out[t] + scale * sum) : T(scale * sum);
  }
}

/* sums (threads,) of squares: a thread takes every `threads`-th number */
template <class T> __global__ void squares(const T *x, T *sums, int size, int threads) {
  EACH(t, threads) {
    double sum = 0;
#pragma unroll 8
    for (int i = t; i < size; i += threads) sum += x[i] * x[i];
    sums[t] = T(sum);
  }
}

/* out () = root of the sum of in (count,) */
template <class T> __global__ void root_of_sum(const T *in, T *out, int count) {
  EACH(t, 1) {
    double sum = 0;
#pragma unroll 16
    for (int i = 0; i < count; i++) sum += in[i];
    out[0] = T(root(sum));
  }
}

/* ---- BatchNorm with its activation: layers/batchnorm.py has the formulas. A batch may consist of
   several equal parts, one after the other, each with its own statistics */

/* moments (parts, strips, 2, c) = each strip's mean, and its sum of squares about that mean. The
   strip's first row is subtracted from all rows, so that no large number is squared */
template <class T, int V>
__global__ void strip_moments(const T *x, double *moments, int parts, int rows, int c, int strip) {
  const int strips = (rows + strip - 1) / strip;
  EACH(t, parts * strips * (c / V)) {
    const int lane = t % (c / V) * V, s = t / (c / V);
    const int first = s / strips * rows + s % strips * strip;
    const int end = least(s / strips * rows + rows, first + strip);
    const Pack<T, V> origin = load<T, V>(x + first * c + lane);
    double sum[V] = {}, square[V] = {};
#pragma unroll 4
    for (int row = first + 1; row < end; row++) {
      const Pack<T, V> values = load<T, V>(x + row * c + lane);
      for (int k = 0; k < V; k++) {
        const double off = values.at[k] - origin.at[k];
        sum[k] += off;
        square[k] += off * off;
      }
    }
    for (int k = 0; k < V; k++) {
      const double off = sum[k] / (end - first);
      moments[s * 2 * c + lane + k] = origin.at[k] + off;
      moments[(s * 2 + 1) * c + lane + k] = square[k] - sum[k] * off;
    }
  }
}

/* out (parts, ..., 2, c) = moments of each `group` of strips of in (parts, count, 2, c). A strip
   has `strip` rows; only a part's last one may have fewer. Source: Chan, Golub & LeVeque 1983 */
template <class T>
__global__ void fold_moments(const double *in, double *out, int parts, int count, int c, int group,
                             int strip, int rows) {
  const int folds = (count + group - 1) / group;
  EACH(t, parts * folds * c) {
    const int column = t % c, f = t / c % folds, part = t / c / folds;
    const int first = f * group, end = least(count, first + group);
    const double *at = in + (part * count + first) * 2 * c + column;
    const double origin = at[0], total = least(rows, end * strip) - first * strip;
    double sum = 0, square = 0;
#pragma unroll 16
    for (int s = first; s < end; s++, at += 2 * c) {
      const double own = least(strip, rows - s * strip), off = at[0] - origin;
      sum += own * off;
      square += at[c] + own * off * off;
    }
    out[(part * folds + f) * 2 * c + column] = origin + sum / total;
    out[((part * folds + f) * 2 + 1) * c + column] = square - sum * sum / total;
  }
}

/* Moments of all processes' rows, as two sums over the processes: this is one's part of them.
   moments (parts, 2, c) of its `rows` rows, which are the fraction `weight` of all -> pooled alike.
   First `about` is moments, and the sum of means is the mean of all rows; then `about` is that sum,
   and the sum of squares is about this mean */
template <class T>
__global__ void pool_moments(const double *moments, const double *about, double *pooled, int parts,
                             int c, int rows, double weight) {
  EACH(t, parts * c) {
    const int mean = t / c * 2 * c + t % c, square = mean + c;
    const double off = moments[mean] - about[mean];
    pooled[mean] = moments[mean] * weight;
    pooled[square] = moments[square] + rows * off * off;
  }
}

/* scale (parts, 3, c) from moments (parts, 2, c) of `rows` rows each: the mean; the rest that its
   rounding to T left, which far from 0 may be as large as the deviation; and 1 / deviation.
   running_mean and running_var (c,), unless null, move by `rate` toward each part's mean, and
   toward its variance times `unbias` */
template <class T>
__global__ void set_scale(const double *moments, T *scale, T *running_mean, T *running_var,
                          int parts, int rows, int c, double eps, double rate, double unbias) {
  EACH(k, c) {
    for (int part = 0; part < parts; part++) {
      const double mean = moments[part * 2 * c + k];
      const double var = moments[(part * 2 + 1) * c + k] / rows;
      T *own = scale + part * 3 * c + k;
      own[0] = T(mean);
      own[c] = T(mean - own[0]);
      own[2 * c] = T(1 / root(var + eps));
      if (running_mean) {
        running_mean[k] = T(running_mean[k] + rate * (mean - running_mean[k]));
        running_var[k] = T(running_var[k] + rate * (var * unbias - running_var[k]));
      }
    }
  }
}

/* scale (3, c) from running statistics */
template <class T>
__global__ void frozen_scale(const T *running_mean, const T *running_var, T *scale, int c,
                             double eps) {
  EACH(k, c) {
    scale[k] = running_mean[k];
    scale[c + k] = T(0);
    scale[2 * c + k] = T(1) / root(running_var[k] + T(eps));
  }
}

/* x_hat of a channel, whose column of scale (3, c) begins at `own` */
template <class T> __device__ inline T normalized(T x, const T *own, int c) {
  return (x - own[0] - own[c]) * own[2 * c];
}

template <class T> __device__ inline T affine(T x_hat, const T *gain, const T *bias, int k) {
  const T scaled = gain ? x_hat * gain[k] : x_hat;
  return bias ? scaled + bias[k] : scaled;
}

/* y = F(gain * x_hat + bias);  scale (parts, 3, c) from set_scale, gain, bias (c,) or null */
template <class T, class F, int V>
__global__ void normalize(const T *x, const T *scale, const T *gain, const T *bias, T *y, int parts,
                          int rows, int c, double a) {
  EACH(t, parts * rows * (c / V)) {
    const int lane = t % (c / V) * V, own = t / (c / V) / rows * 3 * c + lane;
    Pack<T, V> values = load<T, V>(x + t * V);
    for (int k = 0; k < V; k++) {
      const T x_hat = normalized(values.at[k], scale + own + k, c);
      values.at[k] = F::forward(affine(x_hat, gain, bias, lane + k), T(a));
    }
    store<T, V>(y + t * V, values);
  }
}

/* sums (parts, strips, 2, c) of g = dy * F' and of g * x_hat. x_hat and F' are recomputed from x,
   which costs less than reading them from memory */
template <class T, class F, int V>
__global__ void norm_sums(const T *dy, const T *x, const T *scale, const T *gain, const T *bias,
                          T *sums, int parts, int rows, int c, int strip, double a) {
  const int strips = (rows + strip - 1) / strip;
  EACH(t, parts * strips * (c / V)) {
    const int lane = t % (c / V) * V, s = t / (c / V), part = s / strips;
    const int first = part * rows + s % strips * strip, own = part * 3 * c + lane;
    double sum[V] = {}, product[V] = {};
#pragma unroll 4
    for (int row = first; row < least(part * rows + rows, first + strip); row++) {
      const Pack<T, V> gradient = load<T, V>(dy + row * c + lane);
      const Pack<T, V> values = load<T, V>(x + row * c + lane);
      for (int k = 0; k < V; k++) {
        const T x_hat = normalized(values.at[k], scale + own + k, c);
        const T y = F::forward(affine(x_hat, gain, bias, lane + k), T(a));
        const T g = gradient.at[k] * F::slope(y, T(a));
        sum[k] += g;
        product[k] += g * x_hat;
      }
    }
    for (int k = 0; k < V; k++) {
      sums[s * 2 * c + lane + k] = T(sum[k]);
      sums[(s * 2 + 1) * c + lane + k] = T(product[k]);
    }
  }
}

/* dbias and dgain (c,) += sums (parts, 2, c), unless null; then sums become means over the rows,
   for norm_backward */
template <class T>
__global__ void norm_gradients(T *sums, T *dgain, T *dbias, int parts, int rows, int c) {
  EACH(k, c) {
    for (int part = 0; part < parts; part++) {
      T *own = sums + part * 2 * c + k;
      if (dbias) dbias[k] += own[0];
      if (dgain) dgain[k] += own[c];
      own[0] /= T(rows);
      own[c] /= T(rows);
    }
  }
}

/* dx = gain / deviation * (g - mean of g - x_hat * mean of g * x_hat);
   means (parts, 2, c), or null if the statistics were the running ones. dx may be dy */
template <class T, class F, int V>
__global__ void norm_backward(const T *dy, const T *x, const T *scale, const T *gain,
                              const T *bias, const T *means, T *dx, int parts, int rows, int c,
                              double a) {
  EACH(t, parts * rows * (c / V)) {
    const int lane = t % (c / V) * V, part = t / (c / V) / rows, own = part * 3 * c + lane;
    const Pack<T, V> values = load<T, V>(x + t * V);
    Pack<T, V> gradient = load<T, V>(dy + t * V);
    for (int k = 0; k < V; k++) {
      const T x_hat = normalized(values.at[k], scale + own + k, c);
      const T y = F::forward(affine(x_hat, gain, bias, lane + k), T(a));
      T g = gradient.at[k] * F::slope(y, T(a));
      if (means)
        g -= means[part * 2 * c + lane + k] + x_hat * means[(part * 2 + 1) * c + lane + k];
      gradient.at[k] = g * scale[own + 2 * c + k] * (gain ? gain[lane + k] : T(1));
    }
    store<T, V>(dx + t * V, gradient);
  }
}

/* ---- losses of a logit l with target t: see losses.py, objective.py */

struct CrossEntropy {
  template <class T> __device__ static T loss(T l, T t) {
    return log_one_plus(exponential(l > T(0) ? -l : l)) + (l < T(0) ? T(0) : l) - l * t;
  }
  template <class T> __device__ static T slope(T l, T t) {
    const T e = exponential(l > T(0) ? -l : l);
    return exponential(l > T(0) ? T(0) : l) / (e + T(1)) - t;
  }
};
struct LeastSquares {
  template <class T> __device__ static T loss(T l, T t) { return T(0.5) * (l - t) * (l - t); }
  template <class T> __device__ static T slope(T l, T t) { return l - t; }
};
struct Hinge {
  template <class T> __device__ static T loss(T l, T t) {
    return (l >= T(1) ? T(0) : T(1) - l) * t + (l <= T(-1) ? T(0) : T(1) + l) * (T(1) - t);
  }
  template <class T> __device__ static T slope(T l, T t) {
    return l != l ? l : (l > T(-1) ? T(1) - t : T(0)) - (l < T(1) ? t : T(0));
  }
};
struct Negative {
  template <class T> __device__ static T loss(T l, T) { return -l; }
  template <class T> __device__ static T slope(T, T) { return T(-1); }
};

/* loss of each logit clipped to +-limit, and dlogits of the mean loss of the logits as they are, in
   which each has this weight; targets (size,), or null: all are `target` */
template <class T, class L>
__global__ void loss_of_logits(const T *logits, const T *targets, T *losses, T *dlogits, int size,
                               double weight, double target, double limit) {
  EACH(t, size) {
    const T l = logits[t], wanted = targets ? targets[t] : T(target);
    losses[t] = L::loss(l > T(limit) ? T(limit) : l < -T(limit) ? -T(limit) : l, wanted);
    dlogits[t] = L::slope(l, wanted) * T(weight);
  }
}

template <class T> __global__ void probabilities(const T *logits, T *out, int size) {
  EACH(t, size) out[t] = T(0.5) + T(0.5) * tangent(T(0.5) * logits[t]);
}

/* row (count,) = up to eight scalars from anywhere */
template <class T>
__global__ void collect(T *row, const T *a, const T *b, const T *c, const T *d, const T *e,
                        const T *f, const T *g, const T *h, int count) {
  EACH(t, 1) {
    const T *from[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < count; i++) row[i] = from[i][0];
  }
}

/* ---- Adam: see optimizers.py. Values that change from step to step are on the device, so that a
   recorded step can be replayed. numbers (5,): steps, lr; and computed from these:
   lr / correction1, 1 / correction2, eps */

template <class T>
__global__ void adam_tick(double *numbers, double beta1, double beta2, double eps, int eps_hat) {
  EACH(t, 1) {
    const double step = numbers[0] + 1, correction2 = 1 - pow(beta2, step);
    numbers[0] = step;
    numbers[2] = numbers[1] / (1 - pow(beta1, step));
    numbers[3] = 1 / correction2;
    numbers[4] = eps_hat ? eps / sqrt(correction2) : eps;
  }
}

template <class T>
__global__ void adam(T *p, const T *g, T *m, T *v, const double *numbers, int size, double beta1,
                     double beta2, double l2) {
  const T rate = T(numbers[2]), scale = T(numbers[3]), eps = T(numbers[4]);
  EACH(t, size) {
    const T gradient = l2 != 0 ? p[t] * T(l2) + g[t] : g[t];
    const T m_new = m[t] * T(beta1) + gradient * T(1 - beta1);
    const T v_new = v[t] * T(beta2) + gradient * gradient * T(1 - beta2);
    m[t] = m_new;
    v[t] = v_new;
    p[t] -= m_new / (root(v_new * scale) + eps) * rate;
  }
}

/* ---- images: pixels (count, h, w, c) uint8, which stay on the device -> out (n, h, w, c).
   Image k is pixels[chosen[k]], or pixels[-1 - chosen[k]] mirrored left to right if chosen[k] < 0.
   pixel_min is -1 or 0. There may be more pixels than an int can count */
template <class T>
__global__ void gather_images(const unsigned char *pixels, const int *chosen, T *out, int n, int h,
                              int w, int c, double pixel_min) {
  EACH(t, n * h * w * c) {
    const int channel = t % c, column = t / c % w, row = t / (c * w) % h;
    const int number = chosen[t / (c * w * h)], from = number < 0 ? w - 1 - column : column;
    const long long image = number < 0 ? -1 - number : number;
    const T value = T(pixels[((image * h + row) * w + from) * c + channel]);
    out[t] = pixel_min < 0 ? value / T(127.5) - T(1) : value / T(255);
  }
}

/* ---- nearest neighbors among images, in whole numbers: see examples/paper/gpu_nearest.py */

template <class T> __global__ void center_bytes(const unsigned char *pixels, T *out, int size) {
  EACH(t, size) out[t] = T(pixels[t]) - T(128);
}

/* squares (n,) = squared norms of rows (n, d) */
template <class T> __global__ void square_rows(const T *rows, T *squares, int n, int d) {
  EACH(t, n) {
    T sum = T(0);
#pragma unroll 8
    for (int i = 0; i < d; i++) sum += rows[t * d + i] * rows[t * d + i];
    squares[t] = sum;
  }
}

/* best (2, queries, strips) = the least of squares - 2 products over every `strips`-th candidate,
   and the first candidate that has it;  squares (candidates,), products (queries, candidates).
   A strip without a candidate has the largest int */
template <class T>
__global__ void nearest_of_strips(const T *products, const T *squares, int *best, int queries,
                                  int candidates, int strips) {
  EACH(t, queries * strips) {
    const T *own = products + t / strips * candidates;
    int least_yet = 2147483647, at = 2147483647;
#pragma unroll 8
    for (int i = t % strips; i < candidates; i += strips) {
      const int value = int(squares[i]) - 2 * int(own[i]);
      if (value < least_yet) {
        least_yet = value;
        at = i;
      }
    }
    best[t] = least_yet;
    best[queries * strips + t] = at;
  }
}

/* out (2, queries) from best (2, queries, strips); of equally near candidates, the first */
template <class T>
__global__ void nearest_strip(const int *best, int *out, int queries, int strips) {
  EACH(t, queries) {
    const int *values = best + t * strips, *numbers = best + (queries + t) * strips;
    int nearest = 0;
    for (int s = 1; s < strips; s++) {
      const bool is_tie = values[s] == values[nearest];
      if (values[s] < values[nearest] || (is_tie && numbers[s] < numbers[nearest])) nearest = s;
    }
    out[t] = values[nearest];
    out[queries + t] = numbers[nearest];
  }
}

/* mean += weight * (x - mean): see averaging.py */
template <class T> __global__ void ema_update(T *mean, const T *x, int size, double weight) {
  EACH(t, size) mean[t] += T(weight) * (x[t] - mean[t]);
}
