import pytest

from ltdd_ray.common.redact import mask, mask_tree


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("s3://AKIA:SECRET@bucket/a", "s3://bucket/a"),
        ("s3://b/a?region=eu&secret_key=X&c=d", "s3://b/a?region=***&secret_key=***&c=***"),
        ("s3://AKIA:SEC/RET@bucket/a", "s3://bucket/a"),
        ("s3://AKIA:SEC'RET@bucket/a", "s3://bucket/a"),
        ("s3://AKIA:S?E#C@RET@bucket/a", "s3://bucket/a"),
        ("'s3://A:S/'E@b/a': timeout", "'s3://b/a': timeout"),
        ("s3://A:S E@b/a and s3://c/d", "s3://b/a and s3://c/d"),
        ("s3://A:12 S@b/a", "s3://b/a"),
        ("s3://A:12/S 3@b/a", "s3://b/a"),
        ("ray://h:10001 and me@b", "ray://h:10001 and me@b"),
        ("http://h:80 and http://h:81/a, ask me@b", "http://h:80 and http://h:81/a, ask me@b"),
        ("abfs://c@h.net/x?sv=20&sig=A%2B/B=", "abfs://h.net/x?sv=***&sig=***"),
        ("gs://b/x?pwd=A&sas=B&auth=C&D", "gs://b/x?pwd=***&sas=***&auth=***&***"),
        ("gs://b/x?sig=A#B", "gs://b/x?sig=***#***"),
        ("see https://h.org/a#part.", "see https://h.org/a#part."),
        ("http://[::1/x?sig=A failed", "http://*** failed"),
        ("s3:///a/b and file:///a", "s3:///a/b and file:///a"),
        ("https://h/a?X-Amz-Signature=X", "https://h/a?X-Amz-Signature=***"),
        ("cannot open 's3://K:S@b/a': timeout", "cannot open 's3://b/a': timeout"),
        ("mail me@example.org about /data/a?b=c", "mail me@example.org about /data/a?b=c"),
    ],
)
def test_addresses_lose_their_secrets_and_nothing_else(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_a_tree_is_masked_at_every_depth() -> None:
    tree = {"a": ["s3://K:S@b", {"c": "s3://K:S@d"}], "e": 1, "f": None}
    assert mask_tree(tree) == {"a": ["s3://b", {"c": "s3://d"}], "e": 1, "f": None}
