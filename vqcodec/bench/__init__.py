"""Measuring: codecs x pictures x qualities -> rows of figures, curves, tables and a page.

In: pictures and the codecs to compare. Out: JSON, CSV, text tables or one HTML page.
Read `study` first: it runs a comparison. `lineup` chooses the codecs, `peers` holds them, `results` defines the rows;
`report`, `tables` and `html` show them, beside curves that others published (`published`). `demo` is a small study of
one bundled picture. `code_maps` draws the codebooks of a model and the codes of a picture.
"""
