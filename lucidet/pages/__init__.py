"""What all HTML pages share: blocks of a page, images, charts, one style sheet, one script."""
