"""Servers that answer in text, behind the OpenAI chat API. In: a question and a seed. Out: the answer's text."""

from evenhand.models.chat_api.server import ChatServer, open_chat

__all__ = ["ChatServer", "open_chat"]
