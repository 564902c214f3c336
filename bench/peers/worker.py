"""One peer in a process of its own: it opens, says so, and runs whenever it is told, a line of JSON each time.

usage: worker.py FOLDER NAME PRECISION THREADS
"""
import json
import os
import sys
import time

import numpy as np
from safetensors.numpy import load_file

from peers import OURS, PEERS, Files


def resident():
    """RssAnon and the peak, in MiB."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return [int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "VmHWM")]


def timed(work, *inputs):
    began = time.perf_counter()
    result = work(*inputs)
    return result, (time.perf_counter() - began) * 1e3


def relative(found, expected):
    """Relative L2 distance."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def main(folder, name, precision, threads):
    # Libraries print; the answers have the stream for themselves.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    say = lambda **what: print(json.dumps(what), file=answers)
    golden = {k.removeprefix("b0/"): v for k, v in load_file(os.path.join(folder, "golden.safetensors")).items()}
    e_in, class_id, tokens = golden["out/e_clean"], golden["in/labels"], golden["out/tokens_argmax"]
    before = resident()[0]
    peer, opened = timed(PEERS[name, precision], Files(folder), threads)

    def run():
        """A picture: the milliseconds of student, decoder, and all of it."""
        began = time.perf_counter()
        if name == OURS:
            student, decoder = peer.parts()
        else:
            logits, student = timed(peer.student, e_in, class_id)
            _, decoder = timed(peer.decoder, logits.argmax(3))
        return {"student": student, "decoder": decoder, "picture": (time.perf_counter() - began) * 1e3}

    # Compiles, packs and allocates.
    first = run()["picture"]
    errors = {}
    if name != OURS:
        errors["logits"] = relative(peer.student(e_in, class_id), golden["out/logits_clean"])
        errors["image"] = relative(peer.decoder(tokens), golden["out/image_hard"])
    say(opened=opened, first=first, errors=errors)
    for line in sys.stdin:
        if line.strip() == "run":
            say(**run())
        elif line.strip() == "memory":
            anonymous, peak = resident()
            say(anonymous=anonymous - before, peak=peak)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))
