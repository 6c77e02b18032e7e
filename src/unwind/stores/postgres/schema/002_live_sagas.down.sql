drop index sagas_live;
