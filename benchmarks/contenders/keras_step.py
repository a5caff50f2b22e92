"""Keras on TensorFlow, one tf.function for the whole step. Channels-last and "same" as in minigan.

Two gradient tapes lie around the step: G's forward is run once, and its tape goes on to
record D's second verdict, so that D's weights get no gradient in G's update.
"""

from benchmarks import nets
from benchmarks.contenders import NoTwin, need
from benchmarks.contenders.plan import affine, plan
from benchmarks.machine import versions
from minigan import get_backend
from minigan.layers.geometry import conv_sizes

tf = need("tensorflow", "tensorflow-cpu keras")
keras = need("keras")
layers = keras.layers


def layer(op):
    """An operation of plan.py -> Keras layer, and its weights in Keras' order."""
    if op.kind == "linear":
        return layers.Dense(op.W.shape[1], use_bias=op.b is not None), [op.W, op.b]
    if op.kind == "norm":
        options = dict(momentum=1 - op.rate, epsilon=op.eps, scale=affine(op), center=affine(op))
        return layers.BatchNormalization(**options), [op.gain, op.bias]
    if op.kind == "reshape":
        return layers.Reshape(op.shape), []
    if op.kind == "leaky_relu":
        return layers.LeakyReLU(negative_slope=op.slope), []
    kinds = {"flatten": layers.Flatten, "relu": layers.ReLU}
    return (kinds[op.kind]() if op.kind in kinds else layers.Activation(op.kind)), []


def convolution(op):
    """-> as `layer`; with one more where the padding has no name: zeros around x before a convolution, and what they would have
    become cut off after a transposed one."""
    name, pads = padding(op), op.pads
    kind, c_out = (
        (layers.Conv2D, op.W.shape[3])
        if op.kind == "conv"
        else (layers.Conv2DTranspose, op.W.shape[2])
    )
    made = (
        kind(
            c_out,
            kernel_size=op.kernel,
            strides=op.stride,
            padding=name or "valid",
            use_bias=op.b is not None,
        ),
        [op.W, op.b],
    )
    if name:
        return [made]
    if op.kind == "conv":  # a pixel that no window reaches, padding below 0, may stay
        return [
            (layers.ZeroPadding2D([[max(0, side) for side in axis] for axis in pads]), []),
            made,
        ]
    if min(map(min, pads)) < 0:
        raise NoTwin(f"padding {pads} of {op.kind} k{op.kernel} s{op.stride} has no twin here")
    return [made, (layers.Cropping2D(pads), [])]


def padding(op):
    """-> "valid" or "same", whichever it is, or None."""
    image = op.in_shape[:2] if op.kind == "conv" else op.out_shape[:2]
    for name in ("valid", "same"):
        sizes, pads = conv_sizes("", image, op.kernel, op.stride, name)
        small = op.out_shape if op.kind == "conv" else op.in_shape
        if sizes == tuple(small[:2]) and [before for before, _ in pads] == [
            before for before, _ in op.pads
        ]:
            return name
    return None


def twin(net):
    """A minigan net -> its twin in Keras."""
    made = [
        pair
        for op in plan(net)
        for pair in (convolution(op) if op.kind in ("conv", "conv_transpose") else [layer(op)])
    ]
    model = keras.Sequential([keras.Input(net.in_shape), *(each for each, _ in made)])
    for each, weights in made:
        trained = [array for array in weights if array is not None]
        each.set_weights(
            trained + each.get_weights()[len(trained) :]
        )  # then the running statistics, as they are
    return model


class Step:
    def __init__(self, preset, batch, width, image, device):
        self.nets = nets.build(preset, batch, get_backend("numpy"), width, image)
        self.batch_statistics = any(
            op.kind == "norm" and op.sampling == "batch" for op in plan(self.nets.G)
        )
        self.G, self.D = twin(self.nets.G), twin(self.nets.D)
        self.nets.G = self.nets.D = None
        adam = dict(learning_rate=nets.RATE, beta_1=nets.BETA1, beta_2=0.999, epsilon=1e-8)
        self.optimizer_g, self.optimizer_d = (
            keras.optimizers.Adam(**adam),
            keras.optimizers.Adam(**adam),
        )
        self.optimizer_g.build(self.G.trainable_variables)
        self.optimizer_d.build(self.D.trainable_variables)
        self.images = tf.constant(self.nets.images())
        self.play = tf.function(self.step)
        self.play_with_z = tf.function(lambda: self.step(self.draw_z()))
        self.draw = tf.function(lambda: self.pixels(self.draw_z()))

    def draw_z(self):
        shape = (self.nets.batch, self.nets.z_dim)
        return (
            tf.random.normal(shape)
            if self.nets.z == "normal"
            else tf.random.uniform(shape, -1.0, 1.0)
        )

    def step(self, z):
        def loss(logits, target):
            return tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), target), logits)
            )

        with tf.GradientTape(watch_accessed_variables=False) as tape_g:
            tape_g.evaluation([variable.value for variable in self.G.trainable_variables])
            fakes = self.G(z, training=True)
            with tape_g.stop_recording(), tf.GradientTape() as tape_d:
                loss_d_real = loss(self.D(self.images, training=True), 1.0)
                loss_d_fake = loss(self.D(tf.stop_gradient(fakes), training=True), 0.0)
                loss_d = loss_d_real + loss_d_fake
            with tape_g.stop_recording():
                variables = self.D.trainable_variables
                self.optimizer_d.apply_gradients(
                    zip(tape_d.gradient(loss_d, variables), variables, strict=True)
                )
            loss_g = loss(self.D(fakes, training=True), 1.0)
        variables = self.G.trainable_variables
        self.optimizer_g.apply_gradients(
            zip(tape_g.gradient(loss_g, variables), variables, strict=True)
        )
        return loss_d_real, loss_d_fake, loss_g

    def losses(self, steps):
        return [[float(loss) for loss in self.play(tf.constant(z))] for z in self.nets.noise(steps)]

    def run(self, times):
        for _ in range(times):
            losses = self.play_with_z()
        losses[2].numpy()

    def pixels(self, z):
        images = self.G(z, training=self.batch_statistics)
        return tf.cast(tf.clip_by_value(tf.round((images + 1.0) * 127.5), 0.0, 255.0), tf.uint8)

    def probes(self):
        return (
            self.pixels(tf.constant(self.nets.noise(1)[0])).numpy().ravel()[:: nets.PROBE].tolist()
        )

    def sample(self, times):
        for _ in range(times):
            self.draw().numpy()

    def versions(self):
        return versions("keras", "tensorflow", "tensorflow-cpu")
