"""Pictures of a table on a Ray cluster: an actor for each core holds an engine, rows stream through, and what was written before a
crash is not made again.

    ray_data.py sprites.parquet out --actors 2

sprites.parquet has the columns that shard.py knows: `id`, and fields of a request. Ray Data's checkpoints read Parquet, not CSV.
out/HASH/pictures, HASH being that of the model file, gets Parquet files of id, request, model, tokens (SHA-256), made (by which machine)
and png; with --webdataset tar files for training, of ID.png and ID.json. Run it again with the same `out` after a crash, of an actor,
of this driver or of the cluster: rows whose files are there are skipped. They are known by `id` alone: a row that was changed needs
another one. A row that cannot be made ends the run, which names it; once it is mended the same command goes on.
Ray Data needs processors beside those of the actors, to read, to write and to look at what is there: where actors have all of them it
waits for ever. On one machine (no RAY_ADDRESS) Ray is told of three more than there are; a cluster needs three that are spare.
"""
import argparse
import io
import json
import os
from pathlib import Path

import ray
import softdimo
from ray.data.checkpoint import CheckpointConfig

from shard import OF_A_ROW, canonical, check_columns, machine, parse, sha256, tokens_hash

# Processors that Ray Data's own tasks take: one each to read, to write, and to look at the checkpoint.
SPARE = 3
# Rows that an actor takes at once, and a crash loses of it: a table of one file is read as one block, which would all go to one actor.
ROWS = 100
# Bytes of pictures at which a file is cut.
BLOCK = 1 << 18


class Maker:
    """An engine of its own, in a process of its own, opened once."""

    def __init__(self, model):
        self.engine, self.model = softdimo.Engine.open(model, threads=1), sha256(model)

    def __call__(self, row):
        fields = {name: "" if value is None else str(value) for name, value in row.items()}
        check_columns(list(fields))
        name, request = parse(fields, f"of id {row.get('id')}")
        try:
            job = self.engine.submit(**request)
        except OF_A_ROW as why:
            raise ValueError(f"row {name}: {why}") from None
        with job:
            png = io.BytesIO()
            job.result().to_pil().save(png, "PNG")
            made = {"request": canonical(request), "model": self.model, "tokens": tokens_hash(job), "made": canonical(machine())}
            return {"id": name, **made, "png": png.getvalue()}


def for_training(row):
    """As WebDataset names what belongs together: bytes, which are written as they are (`encoder=None`)."""
    about = {"request": json.loads(row["request"]), "model": row["model"], "tokens": row["tokens"], "made": json.loads(row["made"])}
    return {"__key__": row["id"], "png": row["png"], "json": canonical(about).encode()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("table", help="Parquet file or folder")
    arguments.add_argument("out", type=Path, help="folder, which every machine of the cluster sees")
    arguments.add_argument("--actors", type=int, default=1)
    arguments.add_argument("--model", type=Path, default=softdimo.BUNDLED_MODEL, help="default: the bundled one")
    arguments.add_argument("--webdataset", action="store_true", help="tar files instead of Parquet; always from the start")
    args = arguments.parse_args()
    ray.init(**({} if "RAY_ADDRESS" in os.environ else {"num_cpus": os.cpu_count() + SPARE}))
    most = int(ray.cluster_resources()["CPU"]) - SPARE
    if not 0 < args.actors <= most:
        arguments.error(f"--actors: expected 1 to {most}, {SPARE} processors less than the cluster has, found {args.actors}")
    # Of another model all pictures are others.
    out, context = args.out.absolute() / sha256(args.model)[:16], ray.data.DataContext.get_current()
    context.target_max_block_size = BLOCK
    if not args.webdataset:
        # Kept beyond the end, so that a run that is complete is not made again either.
        context.checkpoint_config = CheckpointConfig(
            id_column="id", checkpoint_path=str(out / "checkpoint"), delete_checkpoint_on_success=False
        )
    rows = ray.data.read_parquet(args.table).repartition(target_num_rows_per_block=ROWS)
    pictures = rows.map(
        Maker, fn_constructor_args=[str(args.model.absolute())], compute=ray.data.ActorPoolStrategy(size=args.actors), num_cpus=1
    )
    if args.webdataset:
        pictures.map(for_training).write_webdataset(str(out / "pictures"), encoder=None)
    else:
        pictures.write_parquet(str(out / "pictures"))


if __name__ == "__main__":
    main()
