"""Names, values and errors in messages of one line."""


def on_one_line(text: object) -> str:
    """Returns a name or a value without line breaks."""
    return " ".join(str(text).split())


def one_line(error: Exception) -> str:
    """Returns what an error says, in one line that is not too long; its type if it says nothing."""
    return on_one_line(error)[:300] or type(error).__name__


def with_type(error: Exception) -> str:
    """Returns the same with the type of the error."""
    text, kind = one_line(error), type(error).__name__
    return text if text == kind else f"{kind}: {text}"


def reason(error: Exception) -> str:
    """Returns the same with the type of the error, except of a ValueError, which is ours."""
    return one_line(error) if isinstance(error, ValueError) else with_type(error)
