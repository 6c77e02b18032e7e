drop index sagas_correlated;
