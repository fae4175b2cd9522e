"""Charts as inline SVG: numbers in, markup out. Colours and type come from the style sheet alone."""
