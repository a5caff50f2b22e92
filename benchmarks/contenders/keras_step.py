"""Keras on TensorFlow: one tf.function for the whole step; channels-last and "same" as in minigan.

The step is recorded by two nested GradientTapes: G's forward runs once, and the outer one goes on
to record D's second forward, so that D's weights get no gradient in G's update.
"""

from benchmarks import nets
from benchmarks.contenders import NoTwin, need
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.operations import (
    CONVOLUTIONS,
    has_gain_and_bias,
    operations_of,
    samples_by_batch,
)
from minigan.layers.geometry import conv_sizes

tf = need("tensorflow", "tensorflow-cpu keras")
keras = need("keras")
layers = keras.layers


def layers_of(op):
    """An operation of operations.py -> [(Keras layer, its weights in Keras' order)]."""
    if op.kind in CONVOLUTIONS:
        return convolution(op)
    if op.kind == "linear":
        return [(layers.Dense(op.W.shape[1], use_bias=op.b is not None), [op.W, op.b])]
    if op.kind == "norm":
        affine = has_gain_and_bias(op)
        options = dict(momentum=1 - op.rate, epsilon=op.eps, scale=affine, center=affine)
        return [(layers.BatchNormalization(**options), [op.gain, op.bias])]
    if op.kind == "reshape":
        return [(layers.Reshape(op.shape), [])]
    if op.kind == "upsample":
        return [(layers.UpSampling2D(op.scale), [])]
    if op.kind == "leaky_relu":
        return [(layers.LeakyReLU(negative_slope=op.slope), [])]
    kinds = {"flatten": layers.Flatten, "relu": layers.ReLU}
    return [(kinds[op.kind]() if op.kind in kinds else layers.Activation(op.kind), [])]


def convolution(op):
    """-> likewise. A padding that has no name becomes a layer: zeros around x before a convolution;
    cropping of the surplus after a transposed one."""
    name, kind, channels = padding(op), layers.Conv2D, op.W.shape[3]
    if op.kind == "conv_transpose":
        kind, channels = layers.Conv2DTranspose, op.W.shape[2]
    options = dict(strides=op.stride, padding=name or "valid", use_bias=op.b is not None)
    made = (kind(channels, op.kernel, **options), [op.W, op.b])
    if name:
        return [made]
    if op.kind == "conv":  # a pixel that no window reaches, padding below 0, may stay
        zeros = [[max(0, side) for side in axis] for axis in op.pads]
        return [(layers.ZeroPadding2D(zeros), []), made]
    if min(map(min, op.pads)) < 0:
        raise NoTwin(f"padding {op.pads} of {op.kind} k{op.kernel} s{op.stride} has no twin here")
    return [made, (layers.Cropping2D(op.pads), [])]


def padding(op):
    """-> "valid" or "same", if it is one of these, else None."""
    large, small = op.in_shape, op.out_shape
    if op.kind == "conv_transpose":
        large, small = small, large
    before = [first for first, _ in op.pads]
    for name in ("valid", "same"):
        sizes, pads = conv_sizes("", large[:2], op.kernel, op.stride, name)
        if sizes == tuple(small[:2]) and [first for first, _ in pads] == before:
            return name
    return None


def twin(net):
    """A minigan net -> its twin in Keras."""
    made = [pair for op in operations_of(net) for pair in layers_of(op)]
    model = keras.Sequential([keras.Input(net.in_shape), *(each for each, _ in made)])
    for each, weights in made:
        trained = [array for array in weights if array is not None]
        each.set_weights(trained + each.get_weights()[len(trained) :])  # then running statistics
    return model


class Step(Contender):
    packages = ("keras", "tensorflow", "tensorflow-cpu")

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        G, D = self.nets.take()
        self.by_batch = samples_by_batch(operations_of(G))
        self.G, self.D = twin(G), twin(D)
        adam = dict(learning_rate=nets.RATE, beta_1=nets.BETA1, beta_2=0.999, epsilon=1e-8)
        self.optimizer_g = keras.optimizers.Adam(**adam)
        self.optimizer_d = keras.optimizers.Adam(**adam)
        self.optimizer_g.build(self.G.trainable_variables)
        self.optimizer_d.build(self.D.trainable_variables)
        self.images = tf.constant(self.nets.images())
        self.play = tf.function(self.step)
        self.draw_and_play = tf.function(lambda: self.step(self.draw()))
        self.draw_and_sample = tf.function(lambda: self.sampled(self.draw()))

    def draw(self):
        shape = (self.nets.batch, self.nets.z_dim)
        if self.nets.z == "normal":
            return tf.random.normal(shape)
        return tf.random.uniform(shape, -1.0, 1.0)

    def step(self, z):
        def loss(logits, target):
            targets = tf.fill(tf.shape(logits), target)
            return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits))

        of_g, of_d = self.G.trainable_variables, self.D.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as record_g:
            record_g.watch([variable.value for variable in of_g])
            fakes = self.G(z, training=True)
            with record_g.stop_recording(), tf.GradientTape() as record_d:
                loss_d_real = loss(self.D(self.images, training=True), 1.0)
                loss_d_fake = loss(self.D(tf.stop_gradient(fakes), training=True), 0.0)
                loss_d = loss_d_real + loss_d_fake
            with record_g.stop_recording():
                gradients = record_d.gradient(loss_d, of_d)
                self.optimizer_d.apply_gradients(zip(gradients, of_d, strict=True))
            loss_g = loss(self.D(fakes, training=True), 1.0)
        gradients = record_g.gradient(loss_g, of_g)
        self.optimizer_g.apply_gradients(zip(gradients, of_g, strict=True))
        return loss_d_real, loss_d_fake, loss_g

    def upload(self, z):
        return tf.constant(z)

    def launch(self, times):
        for _ in range(times):
            self.last_losses = self.draw_and_play()

    def wait(self):
        self.last_losses[2].numpy()

    def sampled(self, z):
        images = self.G(z, training=self.by_batch)
        return tf.cast(tf.clip_by_value(tf.round((images + 1.0) * 127.5), 0.0, 255.0), tf.uint8)

    def pixels(self, z):
        return self.sampled(z).numpy()

    def sample(self, times):
        for _ in range(times):
            self.draw_and_sample().numpy()
