"""Stage `diversity`: Vendi scores and sample quality."""
