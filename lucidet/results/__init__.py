"""What a training ends with: ``results.html``, with curves and example images."""
