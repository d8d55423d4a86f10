"""Handler file of every model archive: names the handler that is installed on the server.

TorchServe looks for the one class that this file defines.
"""

from handlers.emotion_handler import EmotionHandler


class Handler(EmotionHandler):
    """The installed handler. A new one needs no new archives."""
