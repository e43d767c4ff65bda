"""Commands that show what the program can do here: bench, demo."""

import argparse

from deconvnet.cli.options import Command, add_json, check_writable, print_result


def add_bench(command: Command) -> None:
    bench = command(
        "bench", _bench, "measure how fast this machine is, and how fast we are on it"
    )
    bench.add_argument(
        "what",
        nargs="?",
        default="all",
        metavar="WHAT",
        help="machine, inference, pipeline, training, loading, startup, proposals, crf or all",
    )
    add = bench.add_argument
    add("--networks", metavar="A,B", help="networks to time (default: one of each kind)")
    add(
        "--width",
        type=float,
        default=0.25,
        help="scale of their channel counts; 1 as published",
    )
    add("--size", type=int, default=224, help="side of the pictures in pixels")
    add(
        "--data",
        default="scenes",
        metavar="DATA",
        help="data set with instances, for proposals; its first picture is the pipeline's",
    )
    add("--engines", metavar="A,B", help="what runs the pipeline (default: torch,native)")
    add(
        "--proposals",
        type=int,
        default=50,
        metavar="N",
        help="windows of the pipeline (default: 50)",
    )
    add("--plot", metavar="FILE", help="draw inference and pipeline: .png, .svg or .pdf")
    add_json(bench)


def _bench(arguments: argparse.Namespace) -> None:
    from deconvnet.bench import Settings, check_bench, run

    check_writable(arguments.json, arguments.plot)
    settings = Settings(
        width=arguments.width,
        size=arguments.size,
        data=arguments.data,
        proposals=arguments.proposals,
    )
    if arguments.networks:
        settings = settings._replace(networks=tuple(arguments.networks.split(",")))
    if arguments.engines:
        settings = settings._replace(engines=tuple(arguments.engines.split(",")))
    check_bench(arguments.what, settings)
    if arguments.plot:
        from deconvnet.bench.plot import check_plot, plot

        check_plot(arguments.what, arguments.plot)
    report = run(arguments.what, settings, quiet=arguments.quiet)
    print_result(arguments.json, report.to_json(), report.to_text())
    if arguments.plot:
        plot(report, arguments.plot)


def add_demo(command: Command) -> None:
    demo = command(
        "demo", _demo, "train and compare two small networks on drawn pictures, in minutes"
    )
    demo.add_argument(
        "--out", default="demo", metavar="DIR", help="where index.html is written"
    )


def _demo(arguments: argparse.Namespace) -> None:
    from deconvnet.demo import demo

    page = demo(arguments.out, seed=arguments.seed or 0, quiet=arguments.quiet)
    print(f"Open {page} in a browser.")
