"""The programs, and what is known of them beforehand."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.real_programs import inputs


@dataclass(frozen=True)
class Source:
    """A repository at a commit, cloned into `--sources`."""

    url: str
    commit: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Program:
    """A training that others wrote, or a library that trains, driven as its tutorial does."""

    name: str
    command: tuple[str, ...]
    """What follows `python`: a script, or `-m` and a module; and its arguments."""
    packages: tuple[str, ...] = ()
    """Whose versions stand in the table."""
    needs: tuple[str, ...] = ()
    """Packages that it cannot do without either."""
    source: Source | None = None
    folder: str = ""
    """Of the source: what is copied."""
    start: str = "."
    """Where the copy goes, below a folder that is all its own, and is started."""
    prepare: Callable[[Path], None] | None = None
    """Makes its small inputs, given the folder that it starts in."""
    edits: tuple[tuple[str, str, str], ...] = ()
    """File, what is there, what is put there: only what a machine without GPUs needs."""
    ranks: int = 1
    prefixes: tuple[tuple[str, ...], ...] = ()
    """What names begin with besides those in the outermost module: the variable, where there are
    several models or none. For each optimizer, in the order of first steps; several words for one
    that holds the parameters of several models, equally many of each."""
    pictures: bool = False
    """It uses torchvision, for which there is a stand-in where it is not installed."""
    by_hand: int = 0
    """Steps that it makes without an optimizer."""
    true_findings: dict[str, str] = field(default_factory=dict[str, str])
    """Codes that a person has looked at and found true, and why."""
    varying: tuple[str, ...] = ()
    """Patterns of what its output and its files say of time."""
    varying_files: tuple[str, ...] = ()
    """Names of files that cannot be the same, for the times in them."""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    limit_s: float = 300


def command_of(program: Program) -> str:
    """As one would type it."""
    several = f"torchrun --nproc-per-node {program.ranks}"
    return f"{several if program.ranks > 1 else 'python'} {shlex.join(program.command)}"


EXAMPLES = Source(
    "https://github.com/pytorch/examples",
    "77f55b912142e11fcfdf5b530231fb9c52f181e8",
)
NANOGPT = Source(
    "https://github.com/karpathy/nanoGPT",
    "3adf61e154c3fe3fca428ad6bc3818b27a3b8291",
)
CLEANRL = Source(
    "https://github.com/vwxyzjn/cleanrl",
    "fe8d8a03c41a7ef5b523e2e354bd01c363e786bb",
)
DIFFUSERS = Source(
    "https://github.com/huggingface/diffusers",
    "58eb52c0803ea9af3abec60841c2a093bdf1f951",
)


def _library(
    name: str,
    driver: str,
    *packages: str,
    needs: tuple[str, ...] = (),
    prefixes: tuple[tuple[str, ...], ...] = (),
    true_findings: dict[str, str] | None = None,
    varying: tuple[str, ...] = (),
) -> Program:
    return Program(
        name,
        (f"{driver}.py",),
        packages=packages,
        needs=needs,
        prepare=inputs.driver(driver),
        prefixes=prefixes,
        true_findings=true_findings or {},
        varying=varying,
    )


def _nanogpt(name: str, words: str) -> Program:
    small = (
        "train.py config/train_shakespeare_char.py --device=cpu --dtype=float32 --n_layer=2"
        " --n_head=2 --n_embd=32 --block_size=32 --batch_size=4 --gradient_accumulation_steps=4"
        " --dropout=0.1 --warmup_iters=5 --eval_interval=20 --eval_iters=2 --log_interval=1"
    )
    return Program(
        name,
        (*small.split(), *words.split()),
        source=NANOGPT,
        needs=("tiktoken",),
        prepare=inputs.characters,
        varying=(r"time [\d.]+ms", r"mfu -?[\d.]+%"),
    )


def _words(name: str, words: str, by_hand: int = 0) -> Program:
    small = "main.py --epochs 2 --emsize 32 --nhid 32 --batch_size 8 --bptt 16 --log-interval 10"
    return Program(
        name,
        (*small.split(), *words.split()),
        source=EXAMPLES,
        folder="word_language_model",
        prepare=inputs.words,
        by_hand=by_hand,
        varying=(r"ms/batch +[\d.]+", r"time: +[\d.]+s"),
    )


def _tensor_parallel(name: str, script: str) -> Program:
    return Program(
        name,
        (script,),
        source=EXAMPLES,
        folder="distributed/tensor_parallelism",
        ranks=2,
        edits=(
            (script, "torch.accelerator.current_accelerator().type", '"cpu"'),
            (script, "not verify_min_gpu_count(min_gpus=_min_gpu_count)", "False"),
        ),
        true_findings={"SG301": "it never clears its gradients"},
        varying=(r"\d\d:\d\d:\d\d [AP]M",),
    )


def _trl(name: str, module: str, data: str, prepare: Callable[[Path], None]) -> Program:
    small = (
        f"-m {module} --model_name_or_path model --dataset_name {data} --output_dir out"
        " --max_steps 12 --per_device_train_batch_size 2 --gradient_accumulation_steps 2"
        " --learning_rate 1e-3 --max_length 32 --logging_steps 4 --report_to none --use_cpu"
        " --dtype float32 --bf16 False --gradient_checkpointing False"
    )
    return Program(
        name,
        tuple(small.split()),
        packages=("trl", "transformers"),
        needs=("datasets",),
        prepare=prepare,
        varying=_TRAINER_TIMES,
    )


_TRAINER_TIMES = (r"(runtime|per_second)['\"]: '?[\d.e-]+",)


def _cleanrl(name: str, words: str, *prefixes: tuple[str, ...]) -> Program:
    return Program(
        name,
        (*words.split(), "--no-cuda"),
        source=CLEANRL,
        packages=("gymnasium",),
        needs=("tyro", "tensorboard"),
        prefixes=prefixes,
        environment={"PYTHONPATH": "."},
        varying=(r"SPS: \d+",),
        varying_files=("events.out.*",),
    )


_UNDIVIDED = (
    "Trainer does not divide the loss of this model by the micro-batches"
    " ([transformers#47688](https://github.com/huggingface/transformers/issues/47688))"
)
_DCGAN = "main.py --dataset fake --niter 1 --batchSize 20 --ngf 8 --ndf 8"
_SAC = "cleanrl/sac_continuous_action.py --env-id Pendulum-v1 --total-timesteps 190"
_UNCONDITIONAL = (
    "train_unconditional.py --train_data_dir pictures --model_config_name_or_path unet.json"
    " --resolution 16 --train_batch_size 4 --gradient_accumulation_steps 2 --num_epochs 4"
    " --use_ema --lr_warmup_steps 2 --ddpm_num_inference_steps 4 --eval_batch_size 2"
)

PROGRAMS = (
    _nanogpt("nanoGPT", "--max_iters=40 --compile=False"),
    _nanogpt("nanoGPT, compiled", "--max_iters=20 --compile=True"),
    Program(
        "DCGAN",
        tuple(_DCGAN.split()),
        source=EXAMPLES,
        folder="dcgan",
        prefixes=(("netD.",), ("netG.",)),
        pictures=True,
    ),
    Program(
        "VAE",
        ("main.py", "--epochs", "1"),
        source=EXAMPLES,
        folder="vae",
        start="vae",
        prepare=inputs.digits,
        pictures=True,
    ),
    _words("word language model, LSTM, by hand", "--tied", by_hand=2 * inputs.num_batches(8, 16)),
    _words("word language model, transformer", "--model Transformer --use-optimizer --lr 0.01"),
    Program(
        "REINFORCE",
        ("reinforce.py",),
        packages=("gymnasium",),
        source=EXAMPLES,
        folder="reinforcement_learning",
    ),
    Program(
        "time sequence prediction, LBFGS",
        ("train.py", "--steps", "2"),
        source=EXAMPLES,
        needs=("matplotlib",),
        folder="time_sequence_prediction",
        prepare=inputs.waves,
        environment={"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
        varying_files=("*.pdf",),
    ),
    _tensor_parallel("tensor parallel", "tensor_parallel_example.py"),
    _tensor_parallel("sequence parallel", "sequence_parallel_example.py"),
    _cleanrl("CleanRL, PPO", "cleanrl/ppo.py --total-timesteps 2048"),
    _cleanrl(
        "CleanRL, SAC",
        f"{_SAC} --learning-starts 60",
        ("qf1.", "qf2."),
        ("actor.",),
        ("log_alpha",),
    ),
    Program(
        "diffusers, train_unconditional",
        tuple(_UNCONDITIONAL.split()),
        source=DIFFUSERS,
        packages=("diffusers", "accelerate"),
        needs=("datasets",),
        folder="examples/unconditional_image_generation",
        prepare=inputs.pictures,
        pictures=True,
        varying_files=("events.out.*",),
    ),
    _library(
        "Transformers, Trainer",
        "transformers_trainer",
        "transformers",
        needs=("accelerate",),
        varying=_TRAINER_TIMES,
    ),
    _library(
        "Transformers, Trainer on a classifier",
        "transformers_classifier",
        "transformers",
        needs=("accelerate",),
        true_findings={"SG307": _UNDIVIDED},
        varying=_TRAINER_TIMES,
    ),
    _library("accelerate, no_trainer loop", "no_trainer", "accelerate", "transformers"),
    _library(
        "PEFT, LoRA",
        "peft_lora",
        "peft",
        "transformers",
        true_findings={"SG403": "the base that is frozen is random here, and so are the texts"},
    ),
    _trl("TRL, SFT", "trl.scripts.sft", "texts", inputs.texts),
    _trl("TRL, DPO", "trl.scripts.dpo", "pairs", inputs.pairs),
    _library("Lightning, automatic", "lightning_automatic", "lightning"),
    _library("Lightning, manual (GAN)", "lightning_manual", "lightning"),
    _library("Stable-Baselines3, PPO", "sb3_ppo", "stable_baselines3"),
    _library(
        "Stable-Baselines3, SAC",
        "sb3_sac",
        "stable_baselines3",
        prefixes=(("log_ent_coef",),),
    ),
    _library("PyTorch Geometric, GCN", "pyg_gcn", "torch_geometric"),
    _library("skorch, fit", "skorch_fit", "skorch"),
    _library("skorch, grid search", "skorch_search", "skorch"),
    _library("Opacus, DP-SGD", "opacus_dp", "opacus"),
    _library("schedule-free AdamW", "schedule_free", "schedulefree"),
    _library("torch.optim.Muon and AdamW", "muon", "torch"),
)
