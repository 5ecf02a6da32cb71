"""The healthy base programs: how each is written, and what it trains."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "bases"


@dataclass(frozen=True)
class Base:
    """A healthy program."""

    name: str
    style: str
    network: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.py"

    @property
    def half(self) -> str:
        """Return its half, which its name decides: rules may be tuned by one of them only."""
        return ("look", "held")[hashlib.sha256(self.name.encode()).digest()[0] & 1]


BASES = (
    Base("accelerate_cnn", "accelerate", "convolutions"),
    Base("accelerate_lm", "accelerate", "GRU, language model"),
    Base("accumulate", "plain loop", "MLP, accumulation"),
    Base("actor_critic", "plain loop", "actor and critic, rollouts"),
    Base("advantage_actor", "class", "actor and critic"),
    Base("amp_bf16", "functions", "MLP in bfloat16"),
    Base("amp_fp16", "plain loop", "MLP in float16"),
    Base("amp_fp16_conv", "class", "convolutions in float16"),
    Base("autoencoder", "plain loop", "convolutional autoencoder"),
    Base("bert_mlm", "functions", "transformer encoder, masked language model"),
    Base("causal_encoder", "plain loop", "transformer encoder, language model"),
    Base("cnn_class", "class", "convolutions with batch norm"),
    Base("contrastive", "functions", "contrastive"),
    Base("deep_mlp", "generator", "ten layers"),
    Base("detector", "plain loop", "detector with three losses"),
    Base("diffusion", "plain loop", "diffusion with a moving average"),
    Base("distill", "functions", "distillation"),
    Base("dqn", "functions", "deep Q-learning"),
    Base("ema_classifier", "plain loop", "MLP with batch norm and a moving average"),
    Base("ensemble", "comprehensions", "three networks"),
    Base("gan", "plain loop", "generator and discriminator"),
    Base("gnn", "plain loop", "graph convolutions"),
    Base("gpt", "plain loop", "GPT"),
    Base("gru_adding", "plain loop", "GRU"),
    Base("hf_trainer", "Trainer", "BERT"),
    Base("lbfgs_closure", "closure", "MLP, L-BFGS"),
    Base("lightning_mlp", "Lightning", "MLP"),
    Base("lightning_scheduled", "Lightning", "convolutions"),
    Base("lora", "functions", "low-rank adapters"),
    Base("lora_digits", "functions", "low-rank adapters"),
    Base("lora_encoder", "plain loop", "low-rank adapters"),
    Base("lstm_chars", "functions", "LSTM, language model"),
    Base("maml", "functions", "meta-learning"),
    Base("mlp_function", "functions", "MLP"),
    Base("mlp_plain", "plain loop", "MLP"),
    Base("moe", "plain loop", "mixture of experts"),
    Base("multilabel", "functions", "bag of embeddings"),
    Base("multitask", "plain loop", "two tasks"),
    Base("muon", "plain loop", "MLP, Muon"),
    Base("plateau_accuracy", "functions", "MLP with batch norm"),
    Base("plateau_regression", "plain loop", "regression"),
    Base("ppo", "plain loop", "PPO"),
    Base("q_learning", "plain loop", "Q-learning"),
    Base("resnet_onecycle", "functions", "residual network"),
    Base("sac", "plain loop", "soft actor-critic"),
    Base("sam", "plain loop", "MLP, sharpness-aware"),
    Base("sarsa", "functions", "Q-learning"),
    Base("segmentation", "plain loop", "U-Net"),
    Base("seq2seq_copy", "functions", "encoder and decoder"),
    Base("skipgram", "plain loop", "word vectors"),
    Base("tagger_accum", "plain loop", "bidirectional LSTM, accumulation"),
    Base("token_accum", "plain loop", "GRU, accumulation by tokens"),
    Base("trainer_loss", "Trainer", "bag of embeddings"),
    Base("vae", "plain loop", "variational autoencoder"),
    Base("vit", "plain loop", "vision transformer"),
)
