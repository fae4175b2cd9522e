"""Students: small causal language models that are trained and asked."""

from tapir.students.base import HuggingFaceStudent

__all__ = ["HuggingFaceStudent"]
