"""Options that several commands have, each declared once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

from modelrunner.cli.parser.declared import Option


class Shape(StrEnum):
    """What a model is packaged or pushed as."""

    ARTIFACT = "artifact"
    IMAGE = "image"


ContextSize: TypeAlias = Annotated[
    int | None,
    Option(
        "--context",
        min=1,
        max=2**31 - 1,
        metavar="TOKENS",
        help="Context size of one conversation in tokens (default: the trained size, reduced to"
        " what fits, at most 32768).",
    ),
]
LimitRate: TypeAlias = Annotated[
    str | None, Option(metavar="RATE", help="Maximum bytes per second, such as 20M.")
]
CaFile: TypeAlias = Annotated[
    Path | None,
    Option(metavar="FILE", help="File with CA certificates to trust, in PEM format."),
]
Timeout: TypeAlias = Annotated[
    float | None,
    Option(min=0.001, metavar="SECONDS", help="Overall time limit in seconds."),
]
CopiedReferrers: TypeAlias = Annotated[
    str,
    Option(
        "--referrers",
        metavar="all|signatures|none",
        help="Signatures, SBOMs and the like to take along: all, signatures or none.",
    ),
]
CopiedBlobs: TypeAlias = Annotated[
    int | None,
    Option(
        "--connections",
        min=1,
        max=16,
        metavar="N",
        help="Number of blobs to copy at the same time (default: 4).",
    ),
]
LockedFile: TypeAlias = Annotated[
    Path | None,
    Option(
        "--file",
        metavar="FILE",
        help="File that names the models, for --locked"
        " (default: modelrunner.toml in the current directory).",
    ),
]
SignerKeys: TypeAlias = Annotated[
    list[Path] | None,
    Option("--key", metavar="FILE", help="Public key of a signer, in PEM format; can be repeated."),
]

SignerAuthorities: TypeAlias = Annotated[
    list[Path] | None,
    Option(
        "--ca",
        metavar="FILE",
        help="Certificate authority of signers, in PEM format; can be repeated.",
    ),
]

SignerTimestamps: TypeAlias = Annotated[
    list[Path] | None,
    Option("--tsa", metavar="FILE", help="Authority of timestamps, for --ca; can be repeated."),
]

SignerIdentity: TypeAlias = Annotated[
    str | None, Option("--identity", metavar="WHO", help="Signer that a certificate names.")
]

SignerIssuer: TypeAlias = Annotated[
    str | None, Option("--issuer", metavar="URL", help="OIDC issuer of the signer's identity.")
]

SignerRoot: TypeAlias = Annotated[
    Path | None,
    Option("--trusted-root", metavar="FILE", help="Trusted root of your own Sigstore, in JSON."),
]

Parallel: TypeAlias = Annotated[
    int | None,
    Option(
        min=1,
        max=256,
        metavar="N",
        help="Number of conversations at the same time; each has a whole context (default: 1;"
        " `serve` takes as many as fit, up to 4).",
    ),
]
Threads: TypeAlias = Annotated[
    int | None,
    Option(min=1, metavar="N", help="Number of CPU threads (default: usable cores)."),
]
GpuLayers: TypeAlias = Annotated[
    int | None,
    Option(min=0, metavar="N", help="Number of layers to put on the GPU (default: all that fit)."),
]
KvType: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="TYPE",
        help="Data type of the KV cache: f16, q8_0, ... (default: f16, or q8_0 if memory is"
        " short).",
    ),
]
Draft: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="REF|FILE|auto",
        help="Draft model for speculative decoding: a small model that makes answers faster; or"
        " auto, mtp or ngram to draft without one.",
    ),
]
ChatTemplate: TypeAlias = Annotated[
    str | None,
    Option(
        "--chat-template",
        metavar="NAME|FILE",
        help="Chat template to use: chatml, gemma, llama3, ..., or a Jinja file"
        " (default: the model's own).",
    ),
]
Think: TypeAlias = Annotated[
    str | None,
    Option(
        "--think",
        metavar="LEVEL",
        help="How much to think before the answer: off, on, low, medium, high, or a number of"
        " tokens (default: the model's own).",
    ),
]
System: TypeAlias = Annotated[
    str | None,
    Option("--system", metavar="TEXT", help="System prompt (default: none but the model's own)."),
]
Files: TypeAlias = Annotated[
    list[Path] | None,
    Option("--file", metavar="FILE", help="Text file to put before the PROMPT; can be repeated."),
]
Images: TypeAlias = Annotated[
    list[Path] | None,
    Option("--image", metavar="FILE", help="Image to send with the PROMPT; can be repeated."),
]
Mmproj: TypeAlias = Annotated[
    Path | None,
    Option(metavar="FILE", help="Projector (mmproj) of a GGUF file that takes images."),
]
Assignments: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any setting (`configure --help` lists them); can be repeated.",
    ),
]
Rpc: TypeAlias = Annotated[
    str | None,
    Option(
        "--rpc",
        metavar="HOST:PORT,...",
        help="Use these llama.cpp RPC servers for part of the computation.",
    ),
]
RawFlags: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--flag",
        metavar="FLAG",
        help="Pass FLAG to llama-server unchanged; can be repeated.",
    ),
]
Temperature: TypeAlias = Annotated[
    float | None,
    Option(
        min=0.0,
        max=2.0,
        metavar="T",
        help="Sampling temperature; 0 takes the likeliest token (default: the model's own).",
    ),
]
TopP: TypeAlias = Annotated[
    float | None,
    Option(
        min=0.0,
        max=1.0,
        metavar="P",
        help="Nucleus sampling: use only the most likely tokens with total probability P.",
    ),
]
Seed: TypeAlias = Annotated[
    int | None,
    Option(
        min=0,
        metavar="N",
        help="Random seed; the same seed gives the same answer (default: 42 with a PROMPT).",
    ),
]
MaxTokens: TypeAlias = Annotated[
    int | None,
    Option(
        min=1,
        metavar="N",
        help="Maximum number of tokens to generate (default: 4096 with a PROMPT).",
    ),
]
RepeatPenalty: TypeAlias = Annotated[
    float | None,
    Option(
        min=0.0,
        metavar="P",
        help="Repeat penalty; 1 disables it (default: the model's own, mostly 1).",
    ),
]
Stop: TypeAlias = Annotated[
    list[str] | None,
    Option(metavar="TEXT", help="Stop generating at TEXT; can be repeated."),
]
Answers: TypeAlias = Annotated[
    int | None,
    Option("-n", min=1, max=100, metavar="N", help="Number of answers to generate (default: 1)."),
]
Format: TypeAlias = Annotated[
    str | None,
    Option(
        "--format",
        metavar="json|FILE",
        help="Answer in JSON; with FILE, in JSON that matches this JSON Schema.",
    ),
]
Tools: TypeAlias = Annotated[
    Path | None,
    Option(metavar="FILE.py|json", help="File with functions (tools) that the model can call."),
]
Mcp: TypeAlias = Annotated[
    Path | None,
    Option(metavar="FILE", help="File with MCP servers whose tools the model can call."),
]
YesTools: TypeAlias = Annotated[
    bool, Option("--yes-tools", help="Call tools without asking for confirmation.")
]
RuntimeChoice: TypeAlias = Annotated[
    str | None,
    Option(
        "--runtime",
        metavar="NAME|URL",
        help="Runtime to use: auto, locked, installed[:NAME], llama-server, llama-cpp-python,"
        " xllamacpp, docker, or the URL of a running server.",
    ),
]
Fit: TypeAlias = Annotated[
    bool,
    Option("--fit", help="Choose the largest variant that fits (REF must not have a tag)."),
]
RequireFit: TypeAlias = Annotated[
    bool,
    Option("--require-fit", help="Do not download a model that does not fit (exit code 7)."),
]


Device: TypeAlias = Annotated[
    str | None,
    Option(
        "--device",
        metavar="NAME,...",
        help="Devices to use, in this order, as `modelrunner devices` shows them; none for the CPU"
        " (default: all GPUs).",
    ),
]
RequireGpu: TypeAlias = Annotated[
    bool,
    Option("--require-gpu", help="Fail if the runtime would use no GPU (exit code 8)."),
]
