"""Releasing GPU memory, under the name that researchers' scripts know."""

from common.utils import torch_memory_cleanup as cleanup_gpu_memory

__all__ = ["cleanup_gpu_memory"]
