"""The tables of a notebook in PostgreSQL: those of :mod:`labkit.notebook.schema`, and what differs.

There are one table and one sequence more::

    labkit_slabs         numbers of the files of arrays whose transactions were completed
    labkit_slab_numbers  gives each transaction with arrays a number of its own
"""

from __future__ import annotations

import sqlalchemy as sa

from labkit.notebook import schema

__all__ = ["metadata", "slab_numbers", "slabs"]

metadata = sa.MetaData()

for _table in schema.metadata.sorted_tables:
    _table.to_metadata(metadata)

# Rows of a table have no order here.
metadata.tables[schema.pending.name].append_column(
    sa.Column("arrival", sa.BigInteger, sa.Identity(always=True), nullable=False)
)

# Labs that write at once would wait for each other's rows, and a long text fits into no B-tree.
_provenance = metadata.tables[schema.provenance.name]
_provenance.constraints.difference_update(
    {c for c in _provenance.constraints if isinstance(c, sa.UniqueConstraint)}
)
sa.Index("labkit_provenance_facts", _provenance.c.facts, postgresql_using="hash")

slabs = sa.Table(
    "labkit_slabs",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
)

#: Never goes back, so that no two transactions have one number, whatever becomes of them.
slab_numbers = sa.Sequence("labkit_slab_numbers", start=0, minvalue=0, metadata=metadata)
