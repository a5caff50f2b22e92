"""A mistake in the options of a benchmark gives one line, before anything is measured."""

import pytest

from benchmarks import data, gpu, layers, quality, ranks, scaling, search, step

CASES = [
    (data, ["--images", "no/such/folder"], "--images no/such/folder: there is no such folder"),
    (data, ["--images", ".", "--edge", "0"], "--edge: must be at least 1, got 0"),
    (data, ["--images", ".", "--batch", "1"], "--batch: must be at least 2, got 1"),
    (data, [], "the following arguments are required: --images"),
    (gpu, ["--minutes", "0"], "--minutes must be 1 to 600, got 0"),
    (gpu, ["--against", "keras"], "--against: unknown name 'keras': choose from torch-graph-cl,"),
    (gpu, ["--json", "no/such/folder/file.json"], "there is no such folder"),
    (layers, ["--layers", "G.99"], "--layers: no layer 'G.99': choose from G.1,"),
    (layers, ["--variants", "fast"], "--variants: unknown name 'fast': choose from definition,"),
    (layers, ["--rounds", "0"], "--rounds: must be at least 1, got 0"),
    (quality, ["--against", "torch,keras"], "--against: unknown name 'keras': choose from torch,"),
    (quality, ["--preset", "shibuya-svhn"], "--preset: invalid choice: 'shibuya-svhn'"),
    (quality, ["--seeds", "1"], "--seeds: must be 2 to 10, got 1"),
    (quality, ["--every", "0"], "--every: must be at least 1, got 0"),
    (quality, ["--steps", "0"], "--steps must be"),
    (quality, ["--dataset", "letters"], "--dataset must be one of"),
    (quality, ["--json", "no/such/folder/file.json"], "there is no such folder"),
    (ranks, ["--preset", "tensorflow-mnist"], "--preset: unknown name 'tensorflow-mnist'"),
    (ranks, ["--predict", "mnist,dcgan"], "--predict: unknown name 'dcgan': choose from mnist,"),
    (ranks, ["--network", "25"], "--network: must be LATENCY,RATE, as 25,1.1; got '25'"),
    (ranks, ["--network", "25,0"], "--network: must be at least 0, and above 0; got '25,0'"),
    (ranks, ["--batch", "10", "--ranks", "1,4"], "--batch 10 is not a multiple of 4 ranks"),
    (ranks, ["--batch", "4"], "--batch: must be at least 8, got 4"),
    (ranks, ["--seconds", "0"], "--seconds must be above 0, got 0"),
    (scaling, ["--axes", "depth"], "--axes: unknown name 'depth': choose from batch,width,"),
    (scaling, ["--plot", "plot.exe"], "--plot: must be a .png or .svg"),
    (scaling, ["--plot", "no/such/folder/plot.png"], "in a folder that exists"),
    (search, ["width=x"], "--width must be"),
    (search, ["net=k7"], "candidate 'net=k7': cannot read 'net=k7'"),
    (search, ["seed=3"], "expected NAME=VALUE, of "),
    (search, ["--seconds", "0"], "--seconds must be above 0, got 0"),
    (search, ["--averages", "0,1"], "--averages must be decays"),
    (search, ["--averages", "0,x"], "argument --averages: invalid"),
    (search, ["--json", "no/such/folder/file.json"], "there is no such folder"),
    (step, ["--against", "torch,caffe"], "--against: unknown name 'caffe': choose from torch,"),
    (step, ["--preset", "nothing"], "argument --preset: invalid choice: 'nothing'"),
    (step, ["--batch", "1"], "--batch: must be at least 2, got 1"),
    (step, ["--threads", "100000"], "--threads: must be 1 to"),
    (step, ["--what", "sleep"], "--what: invalid choice: 'sleep'"),
    (step, ["--backend", "abacus"], "--backend: invalid choice: 'abacus'"),
    (step, ["--json", "no/such/folder/file.json"], "there is no such folder"),
    (step, ["--frobnicate"], "unrecognized arguments: --frobnicate"),
    (step, ["--backend", "cupy", "--precision", "fp16"], "--precision: invalid choice: 'fp16'"),
    (step, ["--backend", "cupy", "--avx2"], "--avx2 is for a CPU: leave --backend cupy out"),
    (step, ["--precision", "tf32"], "--precision tf32 is for a GPU: add --backend cupy"),
    (step, ["--against", "torch-graph"], "--against: unknown name 'torch-graph': choose from"),
    (step, ["--backend", "cupy", "--against", "dezero"], "name 'dezero': choose from torch-gr"),
]


@pytest.mark.parametrize("command, arguments, expected", CASES)
def test_wrong_options_give_one_line(command, arguments, expected, capsys):
    assert command.main(arguments) == 2
    captured = capsys.readouterr()
    assert expected in captured.err and captured.err.count("\n") == 1 and not captured.out
