"""How many numbers the nets of each preset have."""

COUNTS = {  # preset -> parameters and running statistics, of G and of D; a variant's if they differ
    "mnist": ((87_585, 288), (51_281, 256)),
    "color32": ((171_963, 432), (115_801, 0)),
    "image64": ((265_747, 608), (212_017, 0)),
    "radford-64": ((18_885_760, 34_560), (17_232_768, 3_584)),
    "radford-64:svhn": ((1_446_976, 8_576), (1_033_664, 768)),
    "radford-64:imagenet": ((6_690_688, 18_944), (4_586_112, 3_328)),
    "radford-mnist-conditional": ((6_820_538, 14_720), (6_688_202, 2_304)),
    "shibuya-fnn": ((114_064, 0), (100_609, 0)),
    "shibuya-mnist": ((92_913, 96), (631_473, 1_600)),
    "shibuya-svhn": ((4_935_171, 1_792), (1_034_113, 768)),
    "shibuya-celeba": ((4_935_171, 1_792), (1_034_113, 768)),
    "tensorflow-mnist": ((2_305_472, 25_472), (212_865, 0)),
    "tensorflow-cifar10": ((3_159_104, 33_152), (217_985, 0)),
    "pytorch-64": ((3_576_704, 1_920), (2_765_568, 1_792)),
    "jindal-mnist64": ((12_654_336, 3_840), (11_032_064, 3_584)),
    "fredriksson-fnn": ((114_064, 0), (100_609, 0)),
    "fredriksson-mnist": ((2_077_569, 768), (835_713, 768)),
    "jayathilaka-faces": ((3_097_136, 3_584), (1_336_321, 0)),
}


def counts_of(name):
    """-> (parameters, running statistics) of G, and of D."""
    return COUNTS.get(name) or COUNTS[name.partition(":")[0]]
