"""A shop in Django REST framework, in one file: python3 shop.py 127.0.0.1:8001"""
import os
import sys

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SHOP_DATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
)
django.setup()

from django.core.management import execute_from_command_line  # noqa: E402
from django.db import connection, models  # noqa: E402
from rest_framework import routers, serializers, viewsets  # noqa: E402


class Order(models.Model):
    item = models.CharField(max_length=50)
    status = models.CharField(max_length=50, default="new")

    class Meta:
        app_label = "contenttypes"
        db_table = "orders"


class OrderSerializer(serializers.ModelSerializer):
    class Meta:
        model = Order
        fields = ["id", "item", "status"]


class Orders(viewsets.ModelViewSet):
    queryset = Order.objects.order_by("id")
    serializer_class = OrderSerializer


router = routers.DefaultRouter()
router.register("orders", Orders)
urlpatterns = router.urls

if __name__ == "__main__":
    with connection.schema_editor() as schema:
        schema.create_model(Order)
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", sys.argv[1]])
