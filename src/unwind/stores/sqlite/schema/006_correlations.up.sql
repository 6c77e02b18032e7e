-- What begins with a text is found by correlation id too. A saga that was given none has its own id for it: such are no part
-- of this, and cost nothing.
create index sagas_correlated on sagas (correlation_id, id) where correlation_id <> id;
