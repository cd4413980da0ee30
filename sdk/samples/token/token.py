"""Python 3, without a package: python3 token.py APP USER, with the secret in PARLANCE_APP_SECRET."""

import base64
import hashlib
import hmac
import json
import os
import sys
import time


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def issue_token(secret: str, app: str, user: str, life_seconds: int = 3600) -> str:
    """A token that lets the user log in for an hour."""
    now = int(time.time())
    claims = {"app": app, "sub": user, "iat": now, "exp": now + life_seconds}
    signed = base64url(b'{"alg":"HS256","typ":"JWT"}') + "." + base64url(json.dumps(claims).encode())
    signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return signed + "." + base64url(signature)


if __name__ == "__main__":
    print(issue_token(os.environ["PARLANCE_APP_SECRET"], sys.argv[1], sys.argv[2]))
