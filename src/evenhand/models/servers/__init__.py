"""How a server is asked, whatever it answers. In: an address, a key's variable, a body. Out: a ``Reply``.

``addresses`` checks what the user gave, ``asking`` asks and tries again, ``replies`` says what an answer means,
``pace`` keeps to a rate, ``seeds`` to 31 bits. What a request holds and what a good answer is, the kinds of server say:
``images_api``, ``chat_api``.
"""
