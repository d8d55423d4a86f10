"""What callers of the model server send, and where it is kept."""

from __future__ import annotations

import json
from pathlib import Path

from moodlake.errors import UserError

Keys = Path | str | None
"""TorchServe's key_file.json, or the ARN of a secret; None where the server wants no token."""


class ServerError(UserError):
    """The model server is out of reach or refuses; the message says what to do."""


class ServerAway(ServerError):
    """It does not answer, or is not ready; it may be so later."""


def read_token(keys: Keys) -> str | None:
    """The token as it is now.

    A secret of AWS Secrets Manager is JSON as in the file, or {"key": "..."}.

    Raises:
        ServerError: it cannot be read.
    """
    if keys is None:
        return None
    try:
        content = json.loads(keys.read_text("utf-8") if isinstance(keys, Path) else _secret(keys))
        token = content.get("inference", content)["key"]
        if not isinstance(token, str) or not token:
            raise ValueError(f"its key is {token!r}, no word")
        return token
    except (KeyError, AttributeError, TypeError) as error:
        told = f'{keys} has no {{"inference": {{"key": "..."}}}}, nor {{"key": "..."}}'
        raise ServerError(f"cannot read the server's token: {told}") from error
    except (OSError, ValueError) as error:
        raise ServerError(
            f"cannot read the server's token from {keys}: {error}; "
            "MOODLAKE_SERVER_KEYS names the key_file.json of a server that was started, or a secret"
        ) from error


def _secret(arn: str) -> str:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.client("secretsmanager", region_name=arn.split(":")[3])
        return str(client.get_secret_value(SecretId=arn)["SecretString"])
    except (BotoCoreError, ClientError, IndexError) as error:
        raise ServerError(
            f"cannot read the server's token from {arn}: {error}; check the secret, and the "
            "permission secretsmanager:GetSecretValue"
        ) from error
