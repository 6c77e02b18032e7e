"""The reference application: an order is carried through inventory, payment and shipment, or completely undone."""
