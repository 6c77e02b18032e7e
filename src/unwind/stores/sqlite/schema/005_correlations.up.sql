-- What begins with a text is found by correlation id too. Sagas without one are no part of it, and cost nothing.
create index sagas_correlated on sagas (correlation_id, id) where correlation_id <> '';
