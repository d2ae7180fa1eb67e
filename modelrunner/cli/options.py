"""Options that several commands have, each declared once."""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from modelrunner.cli.context import Command

ContextSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--context",
        min=1,
        max=2**31 - 1,
        metavar="TOKENS",
        help="Default: what it was trained for and what fits, at most 32768.",
    ),
]
Threads: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Default: usable cores.")
]
GpuLayers: TypeAlias = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Default: all that fit.")
]
KvType: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="Of the KV cache: f16, q8_0, ... Default: f16, or q8_0 where memory is short.",
    ),
]
Draft: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="REF|FILE", help="A small model that guesses ahead: faster answers."),
]
ChatTemplate: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--chat-template",
        metavar="NAME|FILE",
        help="Chat template to use: chatml, gemma, llama3, ..., or a Jinja file"
        " (default: the model's own).",
    ),
]
Files: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--file", metavar="FILE", help="Text file to put before the PROMPT; can be repeated."
    ),
]
Images: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--image", metavar="FILE", help="Image to send with the PROMPT; can be repeated."),
]
Mmproj: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Projector (mmproj) of a GGUF file that takes images."),
]
Assignments: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting; `configure --help` lists them."),
]
Rpc: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--rpc", metavar="HOST:PORT,...", help="llama.cpp's RPC servers, which compute too."
    ),
]
RawFlags: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--flag", metavar="FLAG", help="For llama-server as it is; so is all behind `--`."
    ),
]
Temperature: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=2.0,
        metavar="T",
        help="Sampling temperature (default: 0 with a PROMPT, the runtime's own in a chat).",
    ),
]
TopP: TypeAlias = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, metavar="P", help="Only the likeliest tokens.")
]
Seed: TypeAlias = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="For the same answer again.")
]
MaxTokens: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Maximum number of tokens to generate (default: 4096 with a PROMPT).",
    ),
]
RepeatPenalty: TypeAlias = Annotated[
    float | None,
    typer.Option(min=0.0, metavar="P", help="Repeat penalty; 1 is none (default: 1.1)."),
]
Stop: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="Ends the answer where it would say this; repeatable."),
]
Answers: TypeAlias = Annotated[
    int | None,
    typer.Option("-n", min=1, max=100, metavar="N", help="So many answers to a PROMPT."),
]
Format: TypeAlias = Annotated[
    str | None,
    typer.Option("--format", metavar="json|FILE", help="JSON, or JSON by the JSON Schema in FILE."),
]
Tools: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE.py|json", help="Functions that the model may ask for."),
]
YesTools: TypeAlias = Annotated[
    bool, typer.Option("--yes-tools", help="Call them without a question.")
]
RuntimeChoice: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME|URL",
        help="auto, llama-server, llama-cpp-python, xllamacpp, docker, or a server's URL.",
    ),
]
Fit: TypeAlias = Annotated[
    bool, typer.Option("--fit", help="Choose the largest variant that fits; REF has no tag.")
]
RequireFit: TypeAlias = Annotated[
    bool, typer.Option("--require-fit", help="Exit 7, before a download, for what does not fit.")
]


class CommandWithFlags(Command):
    """A command where all that stands behind `--` is for the runtime."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own is private
        """Understands the command line."""
        if "--" in args:
            at = args.index("--")
            args = [*args[:at], *(f"--flag={flag}" for flag in args[at + 1 :])]
        return super().parse_args(ctx, args)
