"""bcrypt, as etcd stores passwords. Imported only where somebody uses passwords at all."""

COST = 10  # upstream's default --bcrypt-cost


def hash_password(password: str, cost: int = COST) -> bytes:
    """Slow on purpose: off the event loop wherever it can be."""
    import bcrypt

    return bcrypt.hashpw(_bytes(password), bcrypt.gensalt(cost, prefix=b"2a"))


def matches(password: str, hashed: bytes) -> bool:
    import bcrypt

    try:
        return bcrypt.checkpw(_bytes(password), hashed)
    except ValueError:
        return False


def _bytes(password: str) -> bytes:
    # What bcrypt has never looked at beyond.
    return password.encode()[:72]
