"""Whether a challenger may take the champion's place: both on the same rows, and rules on what comes out."""
