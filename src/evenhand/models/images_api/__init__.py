"""Servers that draw, behind the OpenAI images API. In: prompts and seeds. Out: samples, and what they will cost."""

from evenhand.models.images_api.model import ImagesApiModel, load_images_api

__all__ = ["ImagesApiModel", "load_images_api"]
