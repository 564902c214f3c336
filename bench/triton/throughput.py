"""Pictures a second in a loop and from a server, in turn; a table."""

import argparse
import concurrent.futures
import json
import os
import statistics
import subprocess
import time

import tritonclient.grpc as grpc

from server import Repository, Server, inputs

# Model of the server: instances, threads of each.
SERVED = {"one": (1, 2), "two": (2, 1)}
CONFIG = """
backend: "softdimo"
max_batch_size: 16
instance_group [ {{ kind: KIND_CPU, count: {} }} ]
parameters {{ key: "threads", value: {{ string_value: "{}" }} }}
"""


def loop(model, threads, seconds):
    """`softdimo bench generate`, of about so many seconds."""
    command = [
        os.environ["SOFTDIMO"],
        "bench",
        "generate",
        "--model",
        model,
        "--threads",
        str(threads),
        "--json",
        "--runs",
    ]
    runs = int(seconds * 40)
    found = json.loads(subprocess.run(command + [str(runs)], check=True, stdout=subprocess.PIPE).stdout)
    times = [run["milliseconds"] for run in found["combinations"][0]["rounds"][0]["runs"]]
    return 1000 * len(times) / sum(times)


def served(server, model, clients, seconds):
    """So many clients, each of which asks for the next picture once it has the last."""
    until = time.monotonic() + seconds
    counts = [0] * clients

    def client(index):
        connection = grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        wanted = [grpc.InferRequestedOutput("image")]
        while time.monotonic() < until:
            seed = index * 1_000_000 + counts[index]
            connection.infer(model, inputs(label=["red apple"], seed=[seed]), outputs=wanted)
            counts[index] += 1
        connection.close()

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))  # raises what a client did
    return sum(counts) / (time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", default="1,2,4", type=lambda text: [int(k) for k in text.split(",")])
    args = parser.parse_args()
    with Repository() as repository:
        for name, (instances, threads) in SERVED.items():
            repository.add(name, CONFIG.format(instances, threads), args.model)
        with Server(repository, list(SERVED)) as server:
            rows = {
                f"loop, threads: {threads}": lambda t=threads: loop(args.model, t, args.seconds)
                for threads in (1, 2)
            }
            for name, (instances, threads) in SERVED.items():
                for clients in args.clients:
                    title = f"Triton, instances: {instances}, threads of each: {threads}, clients: {clients}"
                    rows[title] = lambda n=name, c=clients: served(server, n, c, args.seconds)
            found = {title: [] for title in rows}
            for _ in range(args.rounds):
                for title, measure in rows.items():
                    found[title].append(measure())
    name = os.path.basename(args.model)
    print(f"pictures/s of {name}: median of {args.rounds} rounds in turn (least to most)")
    for title, rates in found.items():
        print(f"{title:52} {statistics.median(rates):6.1f}  ({min(rates):.1f} to {max(rates):.1f})")


main()
