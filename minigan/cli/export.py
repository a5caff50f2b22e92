"""The commands `export` and `import`: weights that leave, and weights that come in."""

from argparse import Namespace
from pathlib import Path

from minigan.cli.output import output_file
from minigan.export.export_run import export_run
from minigan.export.import_run import import_run
from minigan.training import Log, Run


def export(arguments: Namespace, log: Log) -> None:
    """Write G, D or both into a file for other programs."""
    default = Path(f"{arguments.net or 'G'}.onnx")  # the name in a folder
    path = output_file(arguments.file, default, ".onnx", ".safetensors", name="FILE")
    run = Run(arguments.run)
    log(export_run(run, path, arguments.net, arguments.best, arguments.data_dir, log))


def import_(arguments: Namespace, log: Log) -> None:
    """Make a run of the weights in files."""
    options = vars(arguments)
    files, out = options.pop("files"), options.pop("out", None)
    import_run(files, options, out, log)
