"""The application's own settings: where its three services keep their books."""

from collections.abc import Mapping

from order_saga.participants import inventory, payment, shipment
from unwind.bootstrap import Embedded, participant_file
from unwind.cli import Database, Settings, read_database

_SERVICES = {
    "inventory": Embedded(inventory.inventory, inventory.SCHEMA, inventory.POSTGRES_SCHEMA),
    "payment": Embedded(payment.payment, payment.SCHEMA, payment.POSTGRES_SCHEMA),
    "shipment": Embedded(shipment.shipment, shipment.SCHEMA, shipment.POSTGRES_SCHEMA),
}


def read_services(environment: Mapping[str, str]) -> Mapping[str, Embedded]:
    """The services by name, each on the database that its variable names. Raises SettingsError naming the variable."""
    services = {}
    for name, service in _SERVICES.items():
        variable = f"{name.upper()}_DATABASE_URL"
        database = read_database(environment, variable)
        services[name] = service if database is None else service.on(database, variable)
    return services


def database_of(service: Embedded, settings: Settings) -> Database:
    """Where a service keeps its books."""
    return service.database or participant_file(settings, service.participant.service)


def databases_of(environment: Mapping[str, str], settings: Settings) -> Mapping[str, tuple[Database, str]]:
    """Where each service keeps its books, and which variable says so. Raises SettingsError."""
    return {
        name: (database_of(service, settings), f"{name.upper()}_DATABASE_URL")
        for name, service in read_services(environment).items()
    }
