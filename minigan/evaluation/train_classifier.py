"""How the judge learns: to tell the classes of real images apart.

    L = mean over the batch of softmax cross-entropy(head(body(x)), label)

Its gradient goes back through the head, whose dx is the body's dy. Adam, the rate falling along half a cosine to 0, no choice of
the best step: the test images are looked at once, at the end.

Each image is moved by a few pixels at random, and photographs are mirrored (SVHN's digits are not), so that it learns what
stays the same.
"""

from collections.abc import Callable
from math import cos, pi
from time import monotonic

import numpy as np

from minigan.arrays import Backend
from minigan.data import TESTED, Batches, Dataset, load_dataset
from minigan.errors import ConfigError, RunError
from minigan.evaluation.classifier import Classifier, classifier_file, load_classifier
from minigan.evaluation.reference_images import Real, split
from minigan.losses import softmax_cross_entropy
from minigan.optimizers import Adam

RATE, BATCH_SIZE = 2e-3, 128
EPOCHS = 6
REACH = {1: 2, 3: 3}  # pixels that an image is moved by, at most
MOST = 60_000  # images that it learns from, at most
STREAMS = {"nets": 0, "order": 1, "moves": 2}  # random streams of one seed


def why_no_classifier(real: Real) -> str | None:
    """-> why these images have no judge, or None."""
    if real.train_labels is None or real.test_labels is None:
        return f"{real.name} has no labels: a judge cannot be trained"
    if len(np.unique(real.train_labels)) < 2:
        return f"all images of {real.name} are of one class: a judge has nothing to learn"
    return None


def train_classifier(
    real: Real, backend: Backend, seed: int = 0, log: Callable[[str], object] = print
) -> Classifier:
    """-> a judge that has learnt. The same seed, machine and number of threads give the same one.

    log  called with a line after each epoch
    Raises ConfigError where the images have no labels; RunError where the numbers go wrong.
    """
    if reason := why_no_classifier(real):
        raise ConfigError(reason)
    labels = np.asarray(real.train_labels)
    chosen = np.arange(len(real.train))
    if len(chosen) > MOST:
        chosen = np.sort(
            np.random.default_rng([seed, STREAMS["order"], 1]).choice(
                len(chosen), MOST, replace=False
            )
        )
    images, colours = real.train.take(chosen), real.image_shape[2]
    classifier = Classifier(
        real.image_shape, len(real.classes), backend, np.random.default_rng([seed, STREAMS["nets"]])
    )
    batches = Batches(
        images,
        BATCH_SIZE,
        [seed, STREAMS["order"]],
        labels=labels[chosen],
        drop_last=True,
        flip=colours == 3 and real.name != "svhn",
    )
    moves, one_hot = (
        np.random.default_rng([seed, STREAMS["moves"]]),
        np.eye(classifier.classes, dtype=backend.dtype),
    )
    optimizers = [Adam(net, RATE, beta1=0.9) for net in classifier.nets.values()]
    steps, start, losses = EPOCHS * batches.per_epoch, monotonic(), []
    for step in range(steps):
        x, numbers = batches.draw()
        x = backend.asarray(moved(x, REACH[colours], moves))
        for optimizer in optimizers:
            optimizer.lr = RATE * (1 + cos(pi * step / steps)) / 2
            optimizer.net.zero_grads()
        logits = classifier.head.forward(classifier.body.forward(x))
        loss, dlogits = softmax_cross_entropy(
            logits, backend.asarray(one_hot[numbers]), backend=backend
        )
        dfeatures = classifier.head.backward(dlogits)
        classifier.body.backward(dfeatures, need_dx=False)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss)
        if (step + 1) % batches.per_epoch == 0:
            mean = np.mean([float(backend.to_host(loss)) for loss in losses])
            if not np.isfinite(mean):
                raise RunError(
                    "the judge's loss is not a number any more: are the images what they should be?"
                )
            left = (monotonic() - start) / (step + 1) * (steps - step - 1)
            log(
                f"judge of {real.name}: epoch {(step + 1) // batches.per_epoch}/{EPOCHS}  loss {mean:.4f}  {left / 60:.1f} min left"
            )
            losses.clear()
    _, probabilities = classifier.look(real.test)
    accuracy = float(np.mean(probabilities.argmax(axis=1) == real.test_labels))
    classifier.record = {"seed": seed, "accuracy": accuracy, "tested_on": len(real.test)}
    return classifier


def moved(x: np.ndarray, reach: int, rng: np.random.Generator) -> np.ndarray:
    """x (n, h, w, c) -> each image moved by up to `reach` pixels both ways; its edge is repeated where it leaves a gap."""
    n, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    y = np.empty_like(x)
    for i, (top, left) in enumerate(rng.integers(0, 2 * reach + 1, (n, 2)).tolist()):
        y[i] = padded[i, top : top + h, left : left + w]
    return y


def get_classifier(
    data: Dataset,
    real: Real,
    data_dir: str | None,
    fit: str,
    backend: Backend,
    seed: int | None = None,
    log: Callable[[str], object] = print,
) -> Classifier:
    """-> the judge of these images: from the cache, or trained now, and then it is there.

    data, data_dir, fit  as loaded, and how; real: data, split
    seed                 of its lessons; None: whichever is there, else 0
    Raises ConfigError where there can be none, RunError where it cannot be written.
    """
    if reason := why_no_classifier(real):
        raise ConfigError(reason)
    path = classifier_file(data, fit)
    try:
        classifier = load_classifier(path, real, backend)
    except RunError as error:
        log(f"passing over a judge: {error}")
        classifier = None
    if classifier is None or seed not in (None, classifier.record["seed"]):
        minutes = (
            "about two minutes"
            if real.image_shape == (28, 28, 1)
            else "some minutes, more for large images"
        )
        log(f"training a judge of {data.name}, once: it takes {minutes}")
        if data.name in TESTED:  # a run may take a part of it alone
            real = split(
                load_dataset(data.name, data_dir, image_shape=real.image_shape, fit=fit, log=log),
                data_dir,
                fit,
            )
        classifier = train_classifier(real, backend, seed or 0, log)
        classifier.save(path)
    metadata = "right about {accuracy:.2%} of {tested_on:,} images that were new to it".format(
        **classifier.record
    )
    log(f"judge {classifier.name}: {metadata}; in {path}")
    return classifier
