"""One process of the `pipeline` benchmark: the embedder alone on one thread. Titles come as lines on standard input.

Says ``ready`` once the model is loaded; then prints the seconds that all titles took.
"""

from __future__ import annotations

import sys
import time

from models.embedding.onnx import OnnxEmbedder

BATCH = 512


def main() -> None:
    """Embed the lines of standard input, in batches as the flow takes them."""
    embedder = OnnxEmbedder(threads=1)
    embedder.embed(["warm up"] * 64)
    print("ready", flush=True)
    titles = sys.stdin.read().splitlines()
    began = time.perf_counter()
    for start in range(0, len(titles), BATCH):
        embedder.embed(titles[start : start + BATCH])
    print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
