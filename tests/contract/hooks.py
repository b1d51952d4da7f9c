"""What schemathesis does not know how to send: lines of JSON, whose schema is that of one text."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines_of_json(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()
