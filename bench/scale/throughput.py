"""Pictures a second of the bundled model, by whatever makes them: a loop, worker processes, an HTTP server, Triton. All are open at
once and take turns; a table with ratios to the loop of the same round, and the memory of a process.

usage: throughput.py [--rounds N] [--seconds S] [--clients K] [--only WORDS] [--json]

run sets up what it needs.
"""
import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import softdimo
import tritonclient.grpc
from server import Repository, Server, inputs

ROOT = Path(__file__).parents[2]
# Labels take turns, so that no two requests are alike.
LABELS = ["red apple", "rocket", "dog", "cat"]


def memory(pids):
    """Private and proportional (PSS) memory of processes, MiB, in the mean."""
    private, pss = 0, 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            fields = {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in list(file)[1:])}
        private += fields["Private_Clean"] + fields["Private_Dirty"]
        pss += fields["Pss"]
    return private / 1024 / len(pids), pss / 1024 / len(pids)


class Workers:
    """Processes with an engine of one thread each, as those of examples/scale/shard.py."""

    def __init__(self, count, threads):
        command = [sys.executable, __file__, "--worker", str(threads)]
        self.processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        for process in self.processes:
            assert process.stdout.readline() == "ready\n"
        self.pids = [process.pid for process in self.processes]

    def rate(self, seconds):
        for process in self.processes:
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        return sum(float(process.stdout.readline()) for process in self.processes)

    def close(self):
        for process in self.processes:
            process.stdin.close()
            process.wait()


def worker(threads):
    """Reads seconds from stdin, writes pictures a second."""
    with softdimo.Engine.open(threads=threads) as engine:
        engine.generate("dog")
        print("ready", flush=True)
        for line in sys.stdin:
            began, made = time.monotonic(), 0
            while time.monotonic() - began < float(line):
                engine.generate(LABELS[made % 4], seed=made)
                made += 1
            print(made / (time.monotonic() - began), flush=True)


def clients(count, seconds, connect):
    """Threads that ask for the next picture once they have the last; `connect` gives each what asks for (label, seed)."""
    until, made, failures = time.monotonic() + seconds, [0] * count, []

    def ask(index):
        try:
            with contextlib.closing(connect()) as connection:
                while time.monotonic() < until:
                    connection.ask(LABELS[made[index] % 4], index * 1_000_000 + made[index])
                    made[index] += 1
        except Exception as why:
            failures.append(why)

    began = time.monotonic()
    threads = [threading.Thread(target=ask, args=[index]) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(made) / (time.monotonic() - began)


class FastApi:
    """examples/serve/fastapi_app.py in one process."""

    class Client:
        def __init__(self, url):
            self.http, self.url = httpx.Client(timeout=60), url

        def ask(self, label, seed):
            self.http.get(self.url, params={"label": label, "seed": seed}).raise_for_status()

        def close(self):
            self.http.close()

    def __init__(self, count, threads):
        self.count = count
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--log-level", "warning"]
        environment = {**os.environ, "SOFTDIMO_THREADS": str(threads)}
        self.process = subprocess.Popen(command, cwd=ROOT / "examples" / "serve", env=environment)
        self.pids = [self.process.pid]
        self.url = f"http://127.0.0.1:{port}/v1/pictures"
        for _ in range(600):
            try:
                self.Client(self.url).ask("dog", 0)
                return
            except httpx.ConnectError:
                time.sleep(0.1)
        raise SystemExit("throughput.py: the server of FastAPI does not answer")

    def rate(self, seconds):
        return clients(self.count, seconds, lambda: self.Client(self.url))

    def close(self):
        self.process.terminate()
        self.process.wait()


class Triton:
    """Triton Inference Server, with so many instances of so many threads each, over gRPC."""

    CONFIG = """
    backend: "softdimo"
    max_batch_size: 1
    instance_group [ {{ kind: KIND_CPU, count: {} }} ]
    parameters {{ key: "threads", value: {{ string_value: "{}" }} }}
    """

    class Client:
        def __init__(self, port):
            self.grpc = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}")
            self.wanted = [tritonclient.grpc.InferRequestedOutput("image")]

        def ask(self, label, seed):
            self.grpc.infer("pictures", inputs(label=[label], seed=[seed]), outputs=self.wanted)

        def close(self):
            self.grpc.close()

    def __init__(self, count, instances, threads):
        self.count, self.ends = count, contextlib.ExitStack()
        repository = self.ends.enter_context(Repository())
        repository.add("pictures", self.CONFIG.format(instances, threads), softdimo.BUNDLED_MODEL)
        self.server = self.ends.enter_context(Server(repository, ["pictures"]))
        self.pids = [self.server.process.pid]

    def rate(self, seconds):
        return clients(self.count, seconds, lambda: self.Client(self.server.grpc_port))

    def close(self):
        self.ends.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=4)
    arguments.add_argument("--clients", type=int, default=4)
    arguments.add_argument("--only", default="", help="comma-separated words of the rows wanted, beside the loop")
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.worker is not None:
        return worker(args.worker)
    if min(args.rounds, args.clients) < 1 or not 0 < args.seconds < 86400:
        arguments.error("expected --rounds and --clients of 1 or more, and --seconds above 0 and below a day's")
    cores, k = os.cpu_count(), args.clients
    rows = {
        "loop, 1 thread": lambda: Workers(1, 1),
        f"loop, {cores} threads": lambda: Workers(1, cores),
        f"{cores} workers of 1 thread": lambda: Workers(cores, 1),
        f"FastAPI, {cores} threads, {k} clients": lambda: FastApi(k, cores),
        f"Triton, 1 instance of {cores} threads, {k} clients": lambda: Triton(k, 1, cores),
        f"Triton, {cores} instances of 1 thread, {k} clients": lambda: Triton(k, cores, 1),
    }
    loop = next(iter(rows))
    rows = {name: make for name, make in rows.items() if name == loop or any(word in name for word in args.only.split(","))}
    with contextlib.ExitStack() as stack:
        makers = {name: stack.enter_context(contextlib.closing(make())) for name, make in rows.items()}
        rates = {name: [] for name in rows}
        for index in range(args.rounds):
            for name, maker in makers.items():
                rates[name].append(maker.rate(args.seconds))
            print(f"round {index + 1} of {args.rounds}", file=sys.stderr)
        found = {}
        for name, maker in makers.items():
            private, pss = memory(maker.pids)
            ratio = statistics.median(own / base for own, base in zip(rates[name], rates[loop]))
            found[name] = {"rates": rates[name], "ratio": ratio, "private_mib": private, "pss_mib": pss}
    if args.json:
        return print(json.dumps(found))
    print("| | pictures/s, median (least, most) | × loop | private | PSS |")
    print("|---|--:|--:|--:|--:|")
    for name, row in found.items():
        median, least, most = statistics.median(row["rates"]), min(row["rates"]), max(row["rates"])
        print(f"| {name} | {median:.1f} ({least:.1f}, {most:.1f}) | {row['ratio']:.2f} | {row['private_mib']:.0f} MiB | {row['pss_mib']:.0f} MiB |")


if __name__ == "__main__":
    main()
