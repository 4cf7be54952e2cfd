"""A few steps of a tiny model. In: a folder. Out: a config; the losses of a trainer."""

from evenhand.mitigate.bpo.config import BPOConfig


def config(folder, **given):
    chosen = {
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "condition_dropout": 0.0,
        "anchor": 0.0,
        **given,
    }
    return BPOConfig(output_dir=str(folder), **chosen)


def losses(trainer):
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]
