"""A measure of samples that needs no classifier."""


class MeanPixel:
    """An Evaluator whose distance is the mean pixel of the samples."""

    def __init__(self, options, data, log):
        self.samples = options.samples

    def distance(self, images):
        return float(images.mean())

    def record(self):
        return {"samples": self.samples, "judge": {"name": "0"}, "floor": 0.2}
