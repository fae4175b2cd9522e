"""Any instruction set on disk or on the hub, read into examples or refused with reasons."""

from tapir.corpus.clean import Cleaned, Cleaning, clean
from tapir.corpus.file_corpus import FileCorpus
from tapir.corpus.raw import REASONS, REPAIRS, Bad, Raw, Repair
from tapir.corpus.read import DataSet, FileFacts, read_rows

__all__ = [
    "REASONS",
    "REPAIRS",
    "Bad",
    "Cleaned",
    "Cleaning",
    "DataSet",
    "FileCorpus",
    "FileFacts",
    "Raw",
    "Repair",
    "clean",
    "read_rows",
]
