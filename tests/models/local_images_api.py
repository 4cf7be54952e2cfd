"""A model that asks the local server. In: a started ``ImageServer``. Out: an ``ImagesApiModel`` that does not wait."""

from evenhand.models.images_api.endpoint import open_endpoint
from evenhand.models.images_api.model import ImagesApiModel
from evenhand.records import Prompt
from image_server import ImageServer


def made(server: ImageServer, *, source="toy", check_seed=False, slept=None, options=None, **given):
    endpoint = open_endpoint(source, base_url=server.url, **(options or {}))
    sleep = (lambda seconds: None) if slept is None else slept.append
    return ImagesApiModel(endpoint, check_seed=check_seed, sleep=sleep, **given)


def asked(number):
    return [Prompt(f"p{i}", "x", f"prompt {i}", None) for i in range(number)]
