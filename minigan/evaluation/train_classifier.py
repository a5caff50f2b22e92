"""Training the classifier on the classes of real images.

    L = mean over the batch of softmax cross-entropy(head(body(x)), label)

The gradient goes back through the head, whose dx is the body's dy. The optimizer is Adam, with a
learning rate that falls to 0 along half a cosine. No checkpoint is selected: the test images are
used once, at the end.

Augmentation: each image is shifted by a few pixels, and color images are mirrored at random, unless
they are SVHN's digits.
"""

from math import cos, pi
from time import monotonic

import numpy as np

from minigan.arrays import Backend
from minigan.checks import ignore_float_errors
from minigan.data import Batches, load_dataset
from minigan.data.base import Log
from minigan.errors import ConfigError, RunError
from minigan.evaluation.classifier import Classifier, classifier_file, load_classifier
from minigan.evaluation.reference_images import ReferenceImages, split
from minigan.losses import softmax_cross_entropy
from minigan.optimizers import Adam

LEARNING_RATE, BATCH_SIZE = 2e-3, 128
EPOCHS = 6
MAX_SHIFT = {1: 2, 3: 3}  # pixels, for gray and for color images
MAX_IMAGES = 60_000  # in an epoch
STREAMS = {"nets": 0, "order": 1, "moves": 2}  # random streams of one seed


def why_no_classifier(real: ReferenceImages) -> str | None:
    """-> why no classifier can be trained on these images, or None."""
    labels = real.train.labels
    if labels is None:
        return f"{real.data.name} has no labels: a classifier cannot be trained"
    if len(np.unique(labels)) < 2:
        return f"all images of {real.data.name} are of one class: there is nothing to classify"
    return None


@ignore_float_errors
def train_classifier(real: ReferenceImages, backend: Backend, seed: int, log: Log) -> Classifier:
    """-> a trained classifier; the same seed, machine and number of threads give the same one.

    log  called with a line after each epoch
    Raises RunError if the loss is not finite.
    """
    labels, name, channels = np.asarray(real.train.labels), real.data.name, real.image_shape[2]
    chosen = np.arange(len(labels))
    if len(chosen) > MAX_IMAGES:
        rng = np.random.default_rng([seed, STREAMS["order"], 1])
        chosen = np.sort(rng.choice(len(chosen), MAX_IMAGES, replace=False))
    rng = np.random.default_rng([seed, STREAMS["nets"]])
    classifier = Classifier(real.image_shape, len(real.data.classes), backend, rng)
    flip, seeds = channels == 3 and name != "svhn", [seed, STREAMS["order"]]
    batches = Batches(
        real.train[chosen], BATCH_SIZE, seeds, labels=labels[chosen], drop_last=True, flip=flip
    )
    moves = np.random.default_rng([seed, STREAMS["moves"]])
    one_hot = np.eye(classifier.classes, dtype=backend.dtype)
    optimizers = [Adam(net, LEARNING_RATE, beta1=0.9) for net in classifier.nets.values()]
    steps, start, losses = EPOCHS * batches.per_epoch, monotonic(), []
    for step in range(steps):
        x, numbers = batches.draw()
        for optimizer in optimizers:
            optimizer.lr = LEARNING_RATE * (1 + cos(pi * step / steps)) / 2
            optimizer.net.zero_grads()
        features = classifier.body.forward(backend.asarray(shift(x, MAX_SHIFT[channels], moves)))
        loss, dlogits = softmax_cross_entropy(
            classifier.head.forward(features), backend.asarray(one_hot[numbers]), backend=backend
        )
        classifier.body.backward(classifier.head.backward(dlogits), need_dx=False)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss)
        if (step + 1) % batches.per_epoch == 0:
            mean = np.mean([float(backend.to_host(loss)) for loss in losses])
            losses.clear()
            if not np.isfinite(mean):
                raise RunError(f"the loss of {name}'s classifier is not finite: check the images")
            minutes = (monotonic() - start) / (step + 1) * (steps - step - 1) / 60
            log(
                f"classifier of {name}: epoch {(step + 1) // batches.per_epoch}/{EPOCHS}  "
                f"loss {mean:.4f}  {minutes:.1f} min left"
            )
    _, probabilities = classifier.classify(real.test)
    accuracy = float(np.mean(probabilities.argmax(axis=1) == real.test.labels))
    classifier.record = {"seed": seed, "accuracy": accuracy, "tested_on": len(real.test)}
    return classifier


def shift(x: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """x (n, h, w, c) -> images shifted by up to `most` pixels each way; edges are repeated."""
    n, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    y = np.empty_like(x)
    for i, (top, left) in enumerate(rng.integers(0, 2 * most + 1, (n, 2)).tolist()):
        y[i] = padded[i, top : top + h, left : left + w]
    return y


def get_classifier(
    real: ReferenceImages, backend: Backend, seed: int | None = None, log: Log = print
) -> Classifier:
    """-> the classifier of these images from the cache, or one trained now and stored there.

    seed  of its training; None: any, and 0 if it is trained now
    Raises ConfigError if it cannot be trained, RunError if it cannot be written.
    """
    if reason := why_no_classifier(real):
        raise ConfigError(reason)
    data, path = real.data, classifier_file(real)
    try:
        classifier = load_classifier(real, backend)
    except RunError as error:
        log(f"ignoring a classifier: {error}")
        classifier = None
    if classifier is None or seed not in (None, classifier.record["seed"]):
        is_mnist = real.image_shape == (28, 28, 1)
        minutes = "about two minutes" if is_mnist else "some minutes, more for large images"
        log(f"training a classifier of {data.name}, once: it takes {minutes}")
        if real.published:  # the whole set, of which a run may use a part
            whole = load_dataset(
                data.name, real.data_dir, image_shape=real.image_shape, fit=real.fit, log=log
            )
            real = split(whole, real.data_dir, real.fit)
        old, classifier = classifier, train_classifier(real, backend, seed or 0, log)
        if old is not None and old.name != classifier.name:  # runs may have begun with it
            kept = path.with_suffix(f".{old.name}{path.suffix}")
            old.save(kept)
            log(f"the classifier {old.name} is kept as {kept}")
        classifier.save(path)
    accuracy, count = classifier.record["accuracy"], classifier.record["tested_on"]
    log(
        f"classifier {classifier.name}: {accuracy:.2%} correct on {count:,} images that it was not "
        f"trained on; in {path}"
    )
    return classifier
